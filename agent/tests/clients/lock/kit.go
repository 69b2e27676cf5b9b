package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/sdk/testutil"
)

// test stands for the test that programs call HashiCorp's test kit from.
type test struct {
	testing.TB
	ends []func()
}

func (t *test) Cleanup(end func())                { t.ends = append(t.ends, end) }
func (t *test) Error(args ...any)                 { t.Fatal(args...) }
func (t *test) Errorf(format string, args ...any) { t.Fatalf(format, args...) }
func (t *test) Fail()                             { t.Fatal("it failed") }
func (t *test) FailNow()                          { t.Fatal("it failed") }
func (t *test) Failed() bool                      { return false }
func (t *test) Fatal(args ...any)                 { must(false, fmt.Sprint(args...)) }
func (t *test) Fatalf(format string, args ...any) { must(false, fmt.Sprintf(format, args...)) }
func (t *test) Helper()                           {}
func (t *test) Log(args ...any)                   {}
func (t *test) Logf(format string, args ...any)   {}
func (t *test) Name() string                      { return "kit" }
func (t *test) Setenv(key, value string)          { check(os.Setenv(key, value)) }
func (t *test) TempDir() string                   { return os.TempDir() }

// kit has HashiCorp's test kit start the `consul` that is on the path, fill it, look at it and stop it.
func kit() {
	// The kit looks at the flags of `go test`.
	testing.Init()
	check(flag.CommandLine.Parse(nil))
	t := &test{}
	server, err := testutil.NewTestServerConfigT(t, func(config *testutil.TestServerConfig) {
		config.Stdout, config.Stderr = io.Discard, io.Discard
	})
	check(err)
	server.WaitForLeader(t)
	server.WaitForVoting(t)
	server.WaitForSerfCheck(t)
	server.PopulateKV(t, map[string][]byte{"kit/a": []byte("1"), "kit/b": []byte("2")})
	must(server.GetKVString(t, "kit/a") == "1" && len(server.ListKV(t, "kit/")) == 2, "keys are as they were put")
	server.AddAddressableService(t, "kit", testutil.HealthPassing, "192.0.2.1", 80, []string{"a"})
	server.AddCheck(t, "more", "kit", testutil.HealthWarning)
	config := api.DefaultConfig()
	config.Address = server.HTTPAddr
	consul, err := api.NewClient(config)
	check(err)
	checks, _, err := consul.Health().Checks("kit", nil)
	check(err)
	must(len(checks) == 2 && checks.AggregatedStatus() == api.HealthWarning, "the service is as it was added")
	check(server.Stop())
	for _, end := range t.ends {
		end()
	}
}
