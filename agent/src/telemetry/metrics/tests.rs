//! Both forms of the metrics against what a real Consul answers.

use serde_json::Value;

use super::*;

fn config(host: Option<&str>) -> MetricsConfig {
    MetricsConfig {
        prefix: "consul".to_owned(),
        host: host.map(str::to_owned),
        filter: Filter::default(),
        prometheus: true,
        host_metrics: None,
    }
}

/// What is told after these records: the JSON of the ended interval, and Prometheus' text.
fn told(config: MetricsConfig, record: impl FnOnce()) -> (Value, String) {
    let (metrics, recorder) = Metrics::new(config);
    ::metrics::with_local_recorder(&recorder, record);
    metrics.end_interval(Duration::from_secs(1_700_000_000));
    (serde_json::from_str(&metrics.json()).unwrap(), metrics.prometheus().unwrap())
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|item| item["Name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn json_has_consuls_form() {
    let (json, _) = told(config(None), || {
        let counter = ::metrics::counter!("client.rpc");
        counter.increment(1);
        counter.increment(1);
        counter.increment(4);
        ::metrics::gauge!("raft.last_index", "peer" => "b", "at" => "a").set(7.5);
        let timer = ::metrics::histogram!("kvs.apply");
        timer.record(2.0);
        timer.record(4.0);
        timer.record(f64::NAN);
    });
    assert_eq!(json["Timestamp"], "2023-11-14 22:13:20 +0000 UTC");
    assert_eq!(json["Points"], serde_json::json!([]));
    let expected = serde_json::json!({"Name": "consul.client.rpc", "Count": 3, "Rate": 0.6, "Sum": 6, "Min": 1, "Max": 4,
        "Mean": 2, "Stddev": 3f64.sqrt(), "Labels": {}});
    assert_eq!(named(&json["Counters"], "consul.client.rpc"), &expected);
    let gauges = json["Gauges"].as_array().unwrap();
    let labelled = serde_json::json!({"Name": "consul.raft.last_index", "Value": 7.5, "Labels": {"at": "a", "peer": "b"}});
    assert!(gauges.contains(&labelled), "{gauges:?}");
    let sample = named(&json["Samples"], "consul.kvs.apply");
    assert_eq!((&sample["Count"], &sample["Mean"], &sample["Stddev"]), (&2.into(), &3.into(), &2f64.sqrt().into()));
    let keys: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
}

#[test]
fn an_interval_tells_what_was_recorded_in_it_and_gauges_stay() {
    let (metrics, recorder) = Metrics::new(config(None));
    ::metrics::with_local_recorder(&recorder, || {
        ::metrics::counter!("client.rpc").increment(1);
        ::metrics::gauge!("raft.last_index").set(3.0);
    });
    let json = |metrics: &Metrics| serde_json::from_str::<Value>(&metrics.json()).unwrap();
    assert_eq!(named(&json(&metrics)["Counters"], "consul.client.rpc")["Count"], 1, "before the first interval has ended");
    metrics.end_interval(Duration::from_secs(10));
    assert_eq!(named(&json(&metrics)["Counters"], "consul.client.rpc")["Count"], 1);
    metrics.end_interval(Duration::from_secs(20));
    assert!(named(&json(&metrics)["Counters"], "consul.client.rpc").is_null());
    assert_eq!(named(&json(&metrics)["Gauges"], "consul.raft.last_index")["Value"], 3);
    assert!(metrics.prometheus().unwrap().contains("\nconsul_client_rpc 1\n"), "Prometheus' counters go on");
}

#[test]
fn gauges_alone_carry_the_host() {
    let (json, text) = told(config(Some("h-1")), || {
        ::metrics::counter!("client.rpc").increment(1);
        ::metrics::gauge!("raft.last_index").set(3.0);
    });
    assert_eq!(named(&json["Gauges"], "consul.h-1.raft.last_index")["Value"], 3);
    assert!(named(&json["Gauges"], "consul.raft.last_index").is_null());
    assert_eq!(named(&json["Counters"], "consul.client.rpc")["Count"], 1);
    assert!(text.contains("\nconsul_h_1_raft_last_index 3\n") && text.contains("\nconsul_client_rpc 1\n"), "{text}");
}

#[test]
fn prometheus_reads_consuls_names_summaries_and_meanings() {
    let (_, text) = told(config(None), || {
        for value in 1..=100 {
            ::metrics::histogram!("raft.commitTime").record(f64::from(value));
        }
        ::metrics::counter!("health.check.runs", "kind" => "http", "status" => "passing").increment(2);
    });
    assert!(text.contains("# TYPE consul_raft_commitTime summary\n"), "{text}");
    for quantile in ["0.5", "0.9", "0.99"] {
        assert!(text.contains(&format!("consul_raft_commitTime{{quantile=\"{quantile}\"}} ")), "{text}");
    }
    assert!(text.contains("\nconsul_raft_commitTime_sum 5050\nconsul_raft_commitTime_count 100\n"), "{text}");
    assert!(text.contains("# HELP consul_raft_commitTime From a write's offer"), "{text}");
    assert!(text.contains("# TYPE consul_health_check_runs counter\n"), "{text}");
    assert!(text.contains("consul_health_check_runs{kind=\"http\",status=\"passing\"} 2\n"), "{text}");
    assert!(text.contains("\nconsul_version{version=\""), "{text}");
}

#[test]
fn dashboards_find_their_names_before_anything_happened() {
    let (_, text) = told(config(None), || {});
    for name in [
        "raft_apply",
        "raft_state_candidate",
        "autopilot_healthy",
        "server_isLeader",
        "client_rpc_failed",
        "runtime_sys_bytes",
        "raft_commitTime_count",
        "raft_leader_lastContact_count",
        "runtime_alloc_bytes",
        "runtime_total_gc_pause_ns",
    ] {
        assert!(text.contains(&format!("\nconsul_{name} ")), "{name} in {text}");
    }
    for name in ["process_open_fds", "process_max_fds", "process_start_time_seconds", "process_resident_memory_bytes"] {
        assert!(text.contains(&format!("\n{name} ")), "{name} in {text}");
    }
}

#[test]
fn the_process_tells_json_only_what_consul_does() {
    let (json, _) = told(config(None), || {});
    assert!(named(&json["Gauges"], "consul.runtime.sys_bytes")["Value"].as_u64().unwrap() > 0);
    assert!(json["Gauges"].as_array().unwrap().iter().all(|gauge| !gauge["Name"].as_str().unwrap().contains("process_")));
}

#[test]
fn a_filter_hides_in_both_forms_and_changes_with_a_reload() {
    let (metrics, recorder) = Metrics::new(config(None));
    ::metrics::with_local_recorder(&recorder, || {
        ::metrics::counter!("client.rpc").increment(1);
        ::metrics::counter!("client.rpc.failed").increment(1);
    });
    metrics.end_interval(Duration::from_secs(10));
    let seen = |metrics: &Metrics| {
        (metrics.json().contains("consul.client.rpc\""), metrics.prometheus().unwrap().contains("\nconsul_client_rpc 1"))
    };
    assert_eq!(seen(&metrics), (true, true));
    metrics.set_filter(Filter::new([(false, "consul.client".to_owned()), (true, "consul.client.rpc.failed".to_owned())], true));
    assert_eq!(seen(&metrics), (false, false));
    assert!(metrics.json().contains("consul.client.rpc.failed"));
    assert!(metrics.prometheus().unwrap().contains("\nconsul_client_rpc_failed 1"));
    metrics.set_filter(Filter::default());
    assert_eq!(seen(&metrics), (true, true));
}

#[test]
fn without_prometheus_there_is_json_alone() {
    let (metrics, recorder) = Metrics::new(MetricsConfig { prometheus: false, ..config(None) });
    ::metrics::with_local_recorder(&recorder, || ::metrics::counter!("client.rpc").increment(1));
    assert!(metrics.prometheus().is_none() && metrics.json().contains("consul.client.rpc"));
}

#[test]
fn series_are_bounded() {
    let (metrics, recorder) = Metrics::new(config(None));
    ::metrics::with_local_recorder(&recorder, || {
        for number in 0..5_000 {
            ::metrics::counter!("rpc.query", "who" => number.to_string()).increment(1);
        }
    });
    let told = metrics.prometheus().unwrap().lines().filter(|line| line.starts_with("consul_rpc_query{")).count();
    assert!((1_900..=2_048).contains(&told), "{told}");
}

#[test]
fn many_threads_lose_no_count() {
    let (metrics, recorder) = Metrics::new(config(None));
    let (counter, gauge, timer) = ::metrics::with_local_recorder(&recorder, || {
        (::metrics::counter!("rpc.query"), ::metrics::gauge!("rpc.queries_blocking"), ::metrics::histogram!("kvs.apply"))
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    counter.increment(1);
                    gauge.increment(2.0);
                    gauge.decrement(1.0);
                    timer.record(1.0);
                }
            });
        }
    });
    metrics.end_interval(Duration::from_secs(10));
    let json: Value = serde_json::from_str(&metrics.json()).unwrap();
    assert_eq!(named(&json["Counters"], "consul.rpc.query")["Sum"], 40_000);
    assert_eq!(named(&json["Gauges"], "consul.rpc.queries_blocking")["Value"], 40_000);
    assert_eq!(named(&json["Samples"], "consul.kvs.apply")["Sum"], 40_000);
}

#[test]
fn a_turn_of_upkeep_ends_the_interval_only_when_it_is_over() {
    let (metrics, recorder) = Metrics::new(config(None));
    ::metrics::with_local_recorder(&recorder, || ::metrics::histogram!("kvs.apply").record(1.0));
    let at = Duration::from_secs;
    let began = metrics.turn(at(1_700_000_000), at(1_700_000_005));
    assert_eq!(began, at(1_700_000_000));
    assert!(metrics.inner.last.load().is_none());
    let began = metrics.turn(began, at(1_700_000_010));
    assert_eq!(began, at(1_700_000_010));
    let json: Value = serde_json::from_str(&metrics.json()).unwrap();
    assert_eq!(
        (&json["Timestamp"], &named(&json["Samples"], "consul.kvs.apply")["Count"]),
        (&"2023-11-14 22:13:20 +0000 UTC".into(), &1.into())
    );
}
