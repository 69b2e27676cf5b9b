//! How does a program find a service by DNS? It asks for SRV records: addresses and ports of the instances that are well.
//!
//!     cargo run -p muster-examples --bin lookup_dns -- web.service.consul 127.0.0.1:8600
#![allow(clippy::print_stdout)] // the answer is its output

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// How long one try may take, and how many there are: UDP may lose a packet.
const TRY: Duration = Duration::from_secs(1);
const TRIES: usize = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "web.service.consul".into());
    let server = arguments.next().unwrap_or_else(|| "127.0.0.1:8600".into());
    for (address, port) in look_up(&name, &server)? {
        println!("{address}:{port}");
    }
    Ok(())
}

/// Instances in the order of the answer, which the agent shuffles: taking the first spreads the load.
fn look_up(name: &str, server: &str) -> Result<Vec<(IpAddr, u16)>> {
    let mut question = Message::new(std::process::id() as u16, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_utf8(format!("{}.", name.trim_end_matches('.')))?, RecordType::SRV));
    // Without EDNS an answer holds 512 bytes and at most three records.
    question.set_edns({
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        edns
    });
    let answer = ask(&question, server)?;
    match answer.response_code {
        ResponseCode::NoError => {}
        // Nobody is well, or nobody by that name was ever registered: DNS does not tell the two apart.
        ResponseCode::NXDomain => return Ok(Vec::new()),
        code => bail!("{server} answers {code}"),
    }
    let mut found = Vec::new();
    for record in &answer.answers {
        let RData::SRV(srv) = &record.data else { continue };
        // The addresses of the targets are in the same answer.
        let address = answer.additionals.iter().find_map(|extra| match &extra.data {
            RData::A(a) if extra.name == srv.target => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) if extra.name == srv.target => Some(IpAddr::V6(a.0)),
            _ => None,
        });
        found.extend(address.map(|address| (address, srv.port)));
    }
    Ok(found)
}

fn ask(question: &Message, server: &str) -> Result<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server).with_context(|| format!("no address: {server}"))?;
    socket.set_read_timeout(Some(TRY))?;
    let mut packet = [0; 4096];
    for _ in 0..TRIES {
        socket.send(&question.to_vec()?)?;
        let Ok(length) = socket.recv(&mut packet) else { continue };
        let answer = Message::from_vec(&packet[..length])?;
        if answer.id == question.id {
            return Ok(answer);
        }
    }
    bail!("{server} does not answer")
}
