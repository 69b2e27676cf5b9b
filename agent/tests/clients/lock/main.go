// HashiCorp's Go client beside an agent: its lock, semaphore, session renewal and watch plans. `jobs ADDRESS` does each once;
// `kit` has HashiCorp's test kit run the `consul` that is on the path; `contend ADDRESS KEY NAME TTL DELAY` contends for a lock for
// ever, and says when it has it and when it lost it.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/api/watch"
)

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func must(holds bool, what string) {
	if !holds {
		fmt.Println("failed:", what)
		os.Exit(1)
	}
}

func client() *api.Client {
	config := api.DefaultConfig()
	config.Address = os.Args[2]
	made, err := api.NewClient(config)
	check(err)
	return made
}

func main() {
	switch os.Args[1] {
	case "jobs":
		locks()
		semaphores()
		sessions()
		transactions()
		watches()
		fmt.Println("done")
	case "kit":
		kit()
		fmt.Println("done")
	case "contend":
		contend(os.Args[3], os.Args[4], os.Args[5], os.Args[6])
	}
}

func locks() {
	consul := client()
	lock := func(once bool) *api.Lock {
		made, err := consul.LockOpts(&api.LockOptions{Key: "go/lock", Value: []byte("v"), LockTryOnce: once, LockWaitTime: 300 * time.Millisecond, LockDelay: time.Millisecond})
		check(err)
		return made
	}
	first, second := lock(false), lock(true)
	lost, err := first.Lock(nil)
	check(err)
	held, err := second.Lock(nil)
	check(err)
	must(held == nil, "one holds it, so the other gets nothing")
	must(second.Destroy() == api.ErrLockInUse, "a lock in use is not destroyed")
	check(first.Unlock())
	<-lost
	held, err = lock(false).Lock(nil)
	check(err)
	must(held != nil, "it is free again")
	pair, _, err := consul.KV().Get("go/lock", nil)
	check(err)
	must(pair.LockIndex == 2 && pair.Flags == api.LockFlagValue, "two have held it")
	_, err = consul.Session().Destroy(pair.Session, nil)
	check(err)
	select {
	case <-held:
	case <-time.After(10 * time.Second):
		must(false, "who lost the session hears of it")
	}
}

func semaphores() {
	consul := client()
	semaphore := func() *api.Semaphore {
		made, err := consul.SemaphoreOpts(&api.SemaphoreOptions{Prefix: "go/semaphore", Limit: 2, SemaphoreTryOnce: true, SemaphoreWaitTime: 300 * time.Millisecond})
		check(err)
		return made
	}
	first, second, third := semaphore(), semaphore(), semaphore()
	for _, one := range []*api.Semaphore{first, second} {
		held, err := one.Acquire(nil)
		check(err)
		must(held != nil, "two may hold it")
	}
	held, err := third.Acquire(nil)
	check(err)
	must(held == nil, "a third may not")
	check(first.Release())
	held, err = third.Acquire(nil)
	check(err)
	must(held != nil, "one went, one comes")
	check(second.Release())
	check(third.Release())
	check(third.Destroy())
}

func sessions() {
	consul := client()
	id, _, err := consul.Session().Create(&api.SessionEntry{Name: "s", TTL: "1s", Behavior: api.SessionBehaviorDelete, LockDelay: time.Second}, nil)
	check(err)
	done := make(chan struct{})
	ended := make(chan error)
	go func() { ended <- consul.Session().RenewPeriodic("1s", id, nil, done) }()
	entry, meta, err := consul.Session().Info(id, nil)
	check(err)
	must(entry.Name == "s" && entry.TTL == "1s" && entry.LockDelay == time.Second && len(entry.NodeChecks) == 1, "the session is as it was made")
	locked, _, err := consul.KV().Acquire(&api.KVPair{Key: "go/session", Session: id}, nil)
	check(err)
	must(locked, "it locks a key")
	time.Sleep(2500 * time.Millisecond)
	close(done)
	check(<-ended)
	entry, _, err = consul.Session().Info(id, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 10 * time.Second})
	check(err)
	must(entry == nil, "who stops renewing ends it")
	pair, _, err := consul.KV().Get("go/session", nil)
	check(err)
	must(pair == nil, "its key went with it")
}

func transactions() {
	consul := client()
	ok, answer, _, err := consul.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "go/txn", Value: []byte("v")}},
		{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "go-node", Address: "192.0.2.9"}}},
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "go-node", Service: api.AgentService{ID: "s1", Service: "go-service", Port: 80}}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{Node: "go-node", CheckID: "c1", ServiceID: "s1", Status: api.HealthPassing}}},
		{KV: &api.KVTxnOp{Verb: api.KVGet, Key: "go/txn"}},
	}, nil)
	check(err)
	must(ok && len(answer.Results) == 5 && string(answer.Results[4].KV.Value) == "v", "all of it is done")
	entries, _, err := consul.Health().Service("go-service", "", true, nil)
	check(err)
	must(len(entries) == 1 && entries[0].Service.Port == 80, "the service is there")
	ok, answer, _, err = consul.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVDelete, Key: "go/txn"}},
		{KV: &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: "go/txn"}},
		{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: "go/other", Index: 7}},
	}, nil)
	check(err)
	must(!ok && len(answer.Errors) == 1 && answer.Errors[0].OpIndex == 2, "none of it is done")
	pair, _, err := consul.KV().Get("go/txn", nil)
	check(err)
	must(pair != nil, "what was deleted before the fault is there")
}

// plan runs a watch plan, and gives what it tells.
func plan(of map[string]any) chan any {
	made, err := watch.Parse(of)
	check(err)
	told := make(chan any, 16)
	made.Handler = func(_ uint64, result any) { told <- result }
	go func() { check(made.Run(os.Args[2])) }()
	return told
}

// tells waits until a plan tells it.
func tells(told chan any, what string, holds func(any) bool) {
	end := time.After(20 * time.Second)
	for {
		select {
		case result := <-told:
			if holds(result) {
				return
			}
		case <-end:
			must(false, what)
		}
	}
}

func watches() {
	consul := client()
	keys := plan(map[string]any{"type": "keyprefix", "prefix": "go/watched/"})
	services := plan(map[string]any{"type": "service", "service": "go-watched", "passingonly": true})
	events := plan(map[string]any{"type": "event", "name": "go-event"})
	_, err := consul.KV().Put(&api.KVPair{Key: "go/watched/a", Value: []byte("1")}, nil)
	check(err)
	tells(keys, "the new key", func(result any) bool { pairs := result.(api.KVPairs); return len(pairs) == 1 && string(pairs[0].Value) == "1" })
	_, err = consul.KV().DeleteTree("go/watched/", nil)
	check(err)
	tells(keys, "its removal", func(result any) bool { return len(result.(api.KVPairs)) == 0 })
	check(consul.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "go-watched", Port: 80}))
	tells(services, "the new service", func(result any) bool { return len(result.([]*api.ServiceEntry)) == 1 })
	check(consul.Agent().EnableServiceMaintenance("go-watched", "being worked on"))
	tells(services, "its maintenance", func(result any) bool { return len(result.([]*api.ServiceEntry)) == 0 })
	id, _, err := consul.Event().Fire(&api.UserEvent{Name: "go-event", Payload: []byte("p")}, nil)
	check(err)
	tells(events, "the event", func(result any) bool {
		fired := result.([]*api.UserEvent)
		return len(fired) > 0 && fired[len(fired)-1].ID == id && string(fired[len(fired)-1].Payload) == "p"
	})
}

func contend(key, name, ttl, delay string) {
	wait, err := time.ParseDuration(delay)
	check(err)
	for {
		options := &api.LockOptions{
			Key:              key,
			Value:            []byte(name),
			SessionTTL:       ttl,
			SessionOpts:      &api.SessionEntry{Name: name, TTL: ttl, LockDelay: wait},
			MonitorRetries:   20,
			MonitorRetryTime: 500 * time.Millisecond,
		}
		lock, err := client().LockOpts(options)
		check(err)
		lost, err := lock.Lock(nil)
		if err != nil {
			fmt.Println("refused", err)
			time.Sleep(200 * time.Millisecond)
			continue
		}
		fmt.Println("held")
		<-lost
		fmt.Println("lost")
		_ = lock.Unlock()
	}
}
