//! `/v1/operator/autopilot`: how servers come and go, and how healthy they are.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use muster_catalog::{Autopilot, AutopilotRow, CauseKind, Command, Outcome, SetAutopilot};
use serde_json::{Map, Value, json};

use super::super::Door;
use super::super::call::{Answering, Call, Handler};
use super::super::decode::Object;
use super::super::error::HttpError;
use super::super::reply::Reply;
use super::bad;
use crate::config::duration;
use crate::desk::{Consistency, Health, ServerHealth};

type Methods = &'static [(Method, Handler)];

pub(super) const CONFIGURATION: Methods = &[(Method::GET, Handler::Soon(settings)), (Method::PUT, Handler::Soon(set))];
pub(super) const HEALTH: Methods = &[(Method::GET, Handler::Soon(health))];
pub(super) const STATE: Methods = &[(Method::GET, Handler::Soon(state))];

/// `GET configuration`.
fn settings(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let consistency = if call.query.has("stale") { Consistency::Stale } else { Consistency::Default };
        let AutopilotRow { settings, create_index, modify_index } = door.desk.autopilot_row(&{ call }.who, consistency).await?;
        Ok(Reply::json(
            json!({
                "CleanupDeadServers": settings.cleanup_dead_servers,
                "LastContactThreshold": duration::text(settings.last_contact_threshold),
                "MaxTrailingLogs": settings.max_trailing_logs,
                "MinQuorum": settings.min_quorum,
                "ServerStabilizationTime": duration::text(settings.server_stabilization_time),
                "RedundancyZoneTag": "",
                "DisableUpgradeMigration": false,
                "UpgradeVersionTag": "",
                "CreateIndex": create_index,
                "ModifyIndex": modify_index,
            })
            .to_string(),
        ))
    })
}

/// `PUT configuration`: all of it; what is left out is zero or false, as Consul has it.
fn set(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let cas = match call.query.filled("cas").map(|text| (text.clone(), text.parse())) {
            None => None,
            Some((_, Ok(index))) => Some(index),
            Some((text, Err(_))) => {
                return bad(format!("Error parsing cas value: strconv.ParseUint: parsing {text:?}: invalid syntax"));
            }
        };
        let Call { body, who, .. } = call;
        let settings = understand(&body.read_json().await?)
            .map_err(|error| HttpError::BadRequest(format!("Error parsing autopilot config: {}", bare(&error))))?;
        let command = Command::SetAutopilot(SetAutopilot { settings, cas });
        let (_, outcome) = door.desk.write(&who, command, CauseKind::Api, "operator/autopilot").await?;
        match outcome {
            Outcome::Refused(refusal) => Err(HttpError::Server(refusal.to_string())),
            Outcome::Kv(done) => Ok(Reply::truth(done)),
            Outcome::Done | Outcome::Transaction(_) => Ok(Reply::truth(true)),
        }
    })
}

/// What is wrong, without what is said of all bodies.
fn bare(error: &HttpError) -> String {
    let text = error.to_string();
    text.strip_prefix("Request decode failed: ").map_or(text.clone(), str::to_owned)
}

fn understand(body: &[u8]) -> Result<Autopilot, HttpError> {
    let mut object = Object::parse(body)?;
    let mut number = |name| {
        let number = object.number(name)?;
        u64::try_from(number).map_err(|_| HttpError::Decode(format!("json: cannot unmarshal number {number} into field {name}")))
    };
    let (max_trailing_logs, min_quorum) = (number("MaxTrailingLogs")?, number("MinQuorum")?);
    let settings = Autopilot {
        cleanup_dead_servers: object.truth("CleanupDeadServers")?,
        last_contact_threshold: object.duration("LastContactThreshold")?,
        max_trailing_logs,
        min_quorum: u32::try_from(min_quorum).unwrap_or(u32::MAX),
        server_stabilization_time: object.duration("ServerStabilizationTime")?,
    };
    object.ignore(&["RedundancyZoneTag", "DisableUpgradeMigration", "UpgradeVersionTag", "CreateIndex", "ModifyIndex"]);
    object.finish()?;
    Ok(settings)
}

/// `GET health`: 429 with the same body while not all is well, for those who look at the status alone.
fn health(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let health = door.desk.server_health(&{ call }.who).await?;
        let servers: Vec<Value> = health.servers.iter().map(server).collect();
        let body = json!({ "Healthy": health.healthy, "FailureTolerance": health.failure_tolerance, "Servers": servers });
        let status = if health.healthy { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
        Ok(Reply::json(body.to_string()).with_status(status))
    })
}

fn server(server: &ServerHealth) -> Value {
    json!({
        "ID": server.node.to_string(),
        "Name": server.name.as_str(),
        "Address": address(server),
        "SerfStatus": server.standing.as_str(),
        "Version": server.version.as_str(),
        "Leader": server.leader,
        "LastContact": duration::text(Duration::from_millis(server.last_contact_ms)),
        "LastTerm": server.last_term,
        "LastIndex": server.last_index,
        "Healthy": server.healthy,
        "Voter": server.votes,
        "StableSince": rfc3339(server.since_ms),
    })
}

fn address(server: &ServerHealth) -> String {
    server.address.map(|address| address.to_string()).unwrap_or_default()
}

/// `GET state`.
fn state(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let Health { healthy, failure_tolerance, servers, .. } = door.desk.server_health(&{ call }.who).await?;
        let one = |server: &ServerHealth| {
            let status = match (server.leader, server.votes) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "non-voter",
            };
            json!({
                "ID": server.node.to_string(),
                "Name": server.name.as_str(),
                "Address": address(server),
                "NodeStatus": server.standing.as_str(),
                "Version": server.version.as_str(),
                "LastContact": duration::text(Duration::from_millis(server.last_contact_ms)),
                "LastTerm": server.last_term,
                "LastIndex": server.last_index,
                "Healthy": server.healthy,
                "StableSince": rfc3339(server.since_ms),
                "Status": status,
                "Meta": server.meta,
                "NodeType": "voter",
            })
        };
        let all: Map<String, Value> = servers.iter().map(|server| (server.node.to_string(), one(server))).collect();
        let leader = servers.iter().find(|server| server.leader).map(|server| server.node.to_string());
        let voters: Vec<String> = servers.iter().filter(|server| server.votes).map(|server| server.node.to_string()).collect();
        Ok(Reply::json(
            json!({
                "Healthy": healthy,
                "FailureTolerance": failure_tolerance,
                "OptimisticFailureTolerance": failure_tolerance,
                "Servers": all,
                "Leader": leader.unwrap_or_default(),
                "Voters": voters,
            })
            .to_string(),
        ))
    })
}

/// Milliseconds since 1970 as text (RFC 3339), by the rule that a Gregorian era has 146 097 days and begins in March.
fn rfc3339(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000 + 719_468, ms / 1000 % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read_elsewhere() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_000, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn a_body_is_all_of_it_and_faults_name_their_field() {
        let settings =
            understand(br#"{"CleanupDeadServers":true,"LastContactThreshold":"300ms","MaxTrailingLogs":7,"ModifyIndex":4}"#)
                .expect("a good body");
        assert_eq!((settings.cleanup_dead_servers, settings.max_trailing_logs, settings.min_quorum), (true, 7, 0));
        assert_eq!(settings.last_contact_threshold, Duration::from_millis(300));
        assert!(settings.server_stabilization_time.is_zero());
        for (body, part) in
            [("{\"MinQuorum\":-1}", "MinQuorum"), ("{\"Bogus\":1}", "Bogus"), ("{\"MaxTrailingLogs\":\"x\"}", "Max")]
        {
            assert!(understand(body.as_bytes()).expect_err("it is wrong").to_string().contains(part), "{body}");
        }
    }
}
