// Prometheus' own Consul discovery beside an agent: prints all targets as one line of JSON whenever they change.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sort"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

func main() {
	config := consul.DefaultSDConfig
	config.Server = os.Args[1]
	config.RefreshInterval = model.Duration(time.Second)
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	registry := prometheus.NewRegistry()
	metrics := (&config).NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	if err := metrics.Register(); err != nil {
		panic(err)
	}
	finds, err := consul.NewDiscovery(&config, logger, metrics)
	if err != nil {
		panic(err)
	}
	changes := make(chan []*targetgroup.Group)
	go finds.Run(context.Background(), changes)
	groups := map[string]*targetgroup.Group{}
	for change := range changes {
		for _, group := range change {
			groups[group.Source] = group
		}
		targets := []map[string]string{}
		for _, group := range groups {
			for _, target := range group.Targets {
				labels := map[string]string{}
				for _, set := range []model.LabelSet{group.Labels, target} {
					for name, value := range set {
						labels[string(name)] = string(value)
					}
				}
				targets = append(targets, labels)
			}
		}
		sort.Slice(targets, func(i, j int) bool {
			return targets[i]["__meta_consul_service_id"] < targets[j]["__meta_consul_service_id"]
		})
		line, _ := json.Marshal(targets)
		os.Stdout.Write(append(line, '\n'))
	}
}
