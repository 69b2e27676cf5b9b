//! Where metrics are sent after each interval: statsd and dogstatsd over UDP, statsite over TCP. Nobody waits for them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio::time::timeout;

use super::Metrics;
use super::filter::Filter;
use super::summary::{SampledValue, Summary};

/// Largest datagram: it goes through an Ethernet and its tunnels in one piece.
const PACKET_BYTES_MAX: usize = 1400;
/// All of one interval is sent within this, name resolution included, or lost: half an interval.
const SEND_MAX: Duration = Duration::from_secs(5);

/// What listens at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SinkKind {
    /// Labels become parts of names.
    Statsd,
    /// The same over TCP.
    Statsite,
    /// Labels become tags, beside these.
    Dogstatsd(Vec<String>),
}

/// One place where metrics are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SinkConfig {
    pub(crate) kind: SinkKind,
    /// `host:port`; of dogstatsd also `unix:///path`.
    pub(crate) address: String,
}

impl Metrics {
    /// Sends each interval there when it has ended, until it is dropped. What cannot be sent in time is lost.
    pub(crate) async fn feed(self, sink: SinkConfig) {
        let mut ended = self.intervals();
        let (mut stream, mut troubled) = (None, false);
        while ended.changed().await.is_ok() {
            let packets = match &**self.inner.last.load() {
                Some(summary) => packets(&lines(&sink.kind, summary, &self.inner.filter.load(), self.inner.host.as_deref())),
                None => continue,
            };
            let sent = timeout(SEND_MAX, send(&sink, &mut stream, &packets)).await;
            match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(()) if troubled => {
                    troubled = false;
                    tracing::info!(address = sink.address, "metrics are sent again");
                }
                Ok(()) => {}
                Err(error) => {
                    stream = None;
                    if !troubled {
                        troubled = true;
                        tracing::warn!(address = sink.address, %error, "metrics cannot be sent at present; trying on");
                    }
                }
            }
        }
    }
}

async fn send(sink: &SinkConfig, stream: &mut Option<TcpStream>, packets: &[Vec<u8>]) -> io::Result<()> {
    if let Some(path) = sink.address.strip_prefix("unix://") {
        let socket = UnixDatagram::unbound()?;
        for packet in packets {
            socket.send_to(packet, path).await?;
        }
        return Ok(());
    }
    if sink.kind == SinkKind::Statsite {
        let open = match stream.take() {
            Some(open) => open,
            None => TcpStream::connect(&sink.address).await?,
        };
        let open = stream.insert(open);
        for packet in packets {
            open.write_all(packet).await?;
        }
        return Ok(());
    }
    // Resolved each time: who listens may move.
    let to = tokio::net::lookup_host(&sink.address).await?.next().ok_or(io::ErrorKind::NotFound)?;
    let from: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
    for packet in packets {
        socket.send_to(packet, to).await?;
    }
    Ok(())
}

/// Lines gathered into packets, each line ended.
fn packets(lines: &[String]) -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for line in lines.iter().filter(|line| line.len() < PACKET_BYTES_MAX) {
        match packets.last_mut().filter(|packet| packet.len() + line.len() < PACKET_BYTES_MAX) {
            Some(packet) => packet.extend_from_slice(line.as_bytes()),
            None => packets.push(line.as_bytes().to_vec()),
        }
        packets.last_mut().expect("it was written to just now").push(b'\n');
    }
    packets
}

fn lines(kind: &SinkKind, summary: &Summary, filter: &Filter, host: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let name = |name: &str, labels: &super::summary::Labels| named(kind, name, labels, host);
    for gauge in summary.gauges.iter().filter(|gauge| filter.shows(&gauge.name)) {
        let (name, tags) = name(&gauge.name, &gauge.labels);
        lines.push(format!("{name}:{}|g{tags}", gauge.value));
    }
    for counter in summary.counters.iter().filter(|counter| filter.shows(&counter.name)) {
        let (name, tags) = name(&counter.name, &counter.labels);
        lines.push(format!("{name}:{}|c{tags}", counter.sum));
    }
    for sample in summary.samples.iter().filter(|sample| filter.shows(&sample.name)) {
        let (name, tags) = name(&sample.name, &sample.labels);
        for (value, times) in times(sample) {
            // One value that stands for many is one that was sampled so rarely. Statsite has no word for that.
            match times {
                1 => lines.push(format!("{name}:{value}|ms{tags}")),
                _ if *kind == SinkKind::Statsite => lines.push(format!("{name}:{value}|ms")),
                times => lines.push(format!("{name}:{value}|ms|@{}{tags}", 1.0 / times as f64)),
            }
        }
    }
    lines
}

/// The values of an interval that give the same count, sum, least and most, and how often each counts.
fn times(sample: &SampledValue) -> Vec<(f64, u64)> {
    match sample.count {
        0 => Vec::new(),
        1 => vec![(sample.sum, 1)],
        2 => vec![(sample.min, 1), (sample.max, 1)],
        count => {
            let rest = (sample.sum - sample.min - sample.max) / (count - 2) as f64;
            vec![(sample.min, 1), (rest, count - 2), (sample.max, 1)]
        }
    }
}

/// A name with its tags, in letters that mean nothing to the protocol.
fn named(kind: &SinkKind, name: &str, labels: &super::summary::Labels, host: Option<&str>) -> (String, String) {
    let SinkKind::Dogstatsd(own) = kind else {
        let parts = std::iter::once(name).chain(labels.values().map(String::as_str));
        return (parts.map(plain).collect::<Vec<_>>().join("."), String::new());
    };
    // Dogstatsd knows the host by itself.
    let name = match host.map(|host| format!(".{host}.")) {
        Some(host) => name.replacen(&host, ".", 1),
        None => name.to_owned(),
    };
    let pairs = labels.iter().map(|(label, value)| format!("{}:{}", plain(label), value.replace(['|', ',', '\n'], "_")));
    let tags: Vec<String> = own.iter().cloned().chain(pairs).collect();
    (plain(&name), if tags.is_empty() { String::new() } else { format!("|#{}", tags.join(",")) })
}

fn plain(text: &str) -> String {
    text.replace([':', '|', '@', '#', ' ', '\n'], "_")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // each sink of a test is a task that the test ends
mod tests {
    use super::super::{Filter, MetricsConfig};
    use super::*;

    fn recorded(host: Option<&str>, filter: Filter) -> Metrics {
        let config = MetricsConfig {
            prefix: "consul".to_owned(),
            host: host.map(str::to_owned),
            filter,
            prometheus: false,
            host_metrics: None,
        };
        let (metrics, recorder) = Metrics::new(config);
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::counter!("client.rpc").increment(3);
            ::metrics::gauge!("raft.last_index", "peer" => "a:b").set(7.5);
            let timer = ::metrics::histogram!("kvs.apply");
            [1.0, 2.0, 3.0, 6.0].into_iter().for_each(|ms| timer.record(ms));
        });
        metrics
    }

    fn lines_of(metrics: &Metrics, kind: &SinkKind) -> Vec<String> {
        metrics.end_interval(Duration::from_secs(10));
        let last = metrics.inner.last.load();
        lines(kind, last.as_ref().as_ref().unwrap(), &metrics.inner.filter.load(), metrics.inner.host.as_deref())
    }

    #[test]
    fn an_interval_is_told_in_each_language() {
        let shown = || {
            Filter::new(
                [(true, "consul.client.rpc"), (true, "consul.kvs"), (true, "consul.h.raft.last")].map(|(s, p)| (s, p.to_owned())),
                false,
            )
        };
        let statsd = lines_of(&recorded(Some("h"), shown()), &SinkKind::Statsd);
        let expected = [
            "consul.h.raft.last_index.a_b:7.5|g",
            "consul.client.rpc:3|c",
            "consul.kvs.apply:1|ms",
            "consul.kvs.apply:2.5|ms|@0.5",
            "consul.kvs.apply:6|ms",
        ];
        assert!(expected.iter().all(|line| statsd.iter().any(|told| told == line)), "{statsd:?}");
        assert!(statsd.iter().all(|line| !line.contains("runtime")), "{statsd:?}");
        let tags = vec!["env:test".to_owned()];
        let dog = lines_of(&recorded(Some("h"), shown()), &SinkKind::Dogstatsd(tags));
        assert!(dog.contains(&"consul.raft.last_index:7.5|g|#env:test,peer:a:b".to_owned()), "{dog:?}");
        assert!(dog.contains(&"consul.kvs.apply:2.5|ms|@0.5|#env:test".to_owned()), "{dog:?}");
        let site = lines_of(&recorded(None, Filter::default()), &SinkKind::Statsite);
        assert!(site.contains(&"consul.kvs.apply:2.5|ms".to_owned()), "{site:?}");
    }

    #[test]
    fn packets_are_bounded() {
        let lines: Vec<String> = (0..200).map(|n| "x".repeat(n * 10)).collect();
        let packets = packets(&lines);
        assert!(packets.iter().all(|packet| packet.len() <= PACKET_BYTES_MAX && packet.ends_with(b"\n")));
        let told: usize = packets.iter().map(|packet| packet.iter().filter(|byte| **byte == b'\n').count()).sum();
        assert_eq!(told, 140, "longer lines than a packet are left out");
    }

    #[tokio::test]
    async fn sinks_get_each_interval_and_one_that_is_not_there_holds_up_nobody() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics = recorded(None, Filter::default());
        let sink = |kind: SinkKind, address: String| tokio::spawn(metrics.clone().feed(SinkConfig { kind, address }));
        let feeding = [
            sink(SinkKind::Statsd, udp.local_addr().unwrap().to_string()),
            sink(SinkKind::Statsite, tcp.local_addr().unwrap().to_string()),
            sink(SinkKind::Statsd, "no.such.host.invalid:8125".to_owned()),
            sink(SinkKind::Dogstatsd(Vec::new()), "unix:///no/such/socket".to_owned()),
        ];
        tokio::task::yield_now().await;
        while metrics.inner.ended.receiver_count() < feeding.len() {
            tokio::task::yield_now().await;
        }
        metrics.end_interval(Duration::from_secs(10));
        let mut packet = [0; 2048];
        let mut told = String::new();
        while !told.contains("consul.kvs.apply:6|ms") {
            let length = udp.recv(&mut packet).await.unwrap();
            assert!(length <= PACKET_BYTES_MAX);
            told.push_str(std::str::from_utf8(&packet[..length]).unwrap());
        }
        assert!(told.contains("consul.client.rpc:3|c\n"), "{told}");
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut site = Vec::new();
        while !String::from_utf8_lossy(&site).contains("consul.kvs.apply:2.5|ms\n") {
            assert!(tokio::io::AsyncReadExt::read_buf(&mut stream, &mut site).await.unwrap() > 0);
        }
        assert!(feeding.iter().all(|feeding| !feeding.is_finished()));
        feeding.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
