//! What a client keeps on its disk, and answers from before anybody else does.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_answers_from_its_copy_before_any_server_does() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&path), 1);
    agent.reaches(&server).await;
    server.write(&log, registration(4, Status::Critical));
    server.write(&log, removal(5));
    agent.reaches(&server).await;
    let at = agent.following.position();
    agent.stop().await;

    let mut store = Store::new();
    let (copy, age) = DiskCopy::open(&path, &mut store).expect("it was just written");
    assert_eq!(store.state().position(), at);
    assert_eq!(fed(&store.reader()), fed(&server.reader()));
    assert!(age.expect("a leader was heard of") < SOON);
    drop(copy);

    let without = Agent::start(&mut tasks, &[], Some(&path), 1);
    assert_eq!(fed(&without.reader), fed(&server.reader()));
    assert!(!without.following.age().known_leader && without.following.age().last_contact.is_some());
    server.write(&log, registration(6, Status::Critical));
    without.servers.lock().expect("nobody panics").push_back(server.clone());
    without.reaches(&server).await;
    assert_eq!(without.firsts(), [Some(at.index)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_widened_though_nothing_changes() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let wants = Wants::new(true, &NodeName::new("node-1").expect("a name"), Uuid::from_u128(1), None);
    let agent = Agent::wanting(&mut tasks, from_ref(&server), Some(&path), Some(wants.clone()), 1);
    let asked = Part::Service(ServiceName::new("web-4").expect("a name"));
    let holds = |reader: &Reader| reader.load().interest().is_some_and(|interest| interest.covers(&asked));
    let to = server.reader().load().position();
    eventually("the agent has its own rows", || agent.following.position() == to).await;
    assert!(!holds(&agent.reader));
    wants.note(&asked);
    eventually("the agent has what it was asked for too", || holds(&agent.reader)).await;
    assert_eq!(agent.following.position(), to);
    agent.stop().await;
    let mut store = Store::new();
    DiskCopy::open(&path, &mut store).expect("it was just written");
    assert!(holds(&store.reader()), "the copy on disk is the one that was read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_copy_is_a_catalog_as_it_was_or_none() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..3).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&path), 1);
    agent.reaches(&server).await;
    let mut states = vec![(agent.following.position(), fed(&agent.reader))];
    for node in 0..3 {
        server.write(&log, registration(node, Status::Critical));
        agent.reaches(&server).await;
        states.push((agent.following.position(), fed(&agent.reader)));
    }
    agent.stop().await;
    let whole = std::fs::read(&path).expect("it was just written");
    let torn = dir.path().join("torn.copy");
    let mut reached = std::collections::BTreeSet::new();
    let mut opened = |bytes: &[u8], what: &str| {
        std::fs::write(&torn, bytes).expect("a directory for tests");
        let mut store = Store::new();
        let _copy = DiskCopy::open(&torn, &mut store).expect("whatever is in it, the agent starts");
        let at = store.state().position();
        if at != Position::default() {
            let known = states.iter().find(|(position, _)| *position == at).unwrap_or_else(|| panic!("{what}: {at:?}"));
            assert!(fed(&store.reader()) == known.1, "{what}");
        }
        reached.insert(at.index);
    };
    for end in (0..whole.len()).step_by(7) {
        opened(&whole[..end], &format!("cut at {end}"));
    }
    for at in (24..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        opened(&bytes, &format!("flipped at {at}"));
    }
    opened(b"no copy of a catalog", "foreign");
    assert!(reached.len() >= 4, "{reached:?}");

    // What is torn costs what is missing, and the copy is whole again.
    std::fs::write(&torn, &whole[..whole.len() - 1]).expect("a directory for tests");
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&torn), 1);
    agent.reaches(&server).await;
    assert_eq!(agent.firsts(), [Some(states[2].0.index)]);
    agent.stop().await;
    let mut store = Store::new();
    let _copy = DiskCopy::open(&torn, &mut store).expect("it was just written");
    assert_eq!(store.state().position(), states[3].0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_tail_of_changes_is_folded_into_the_copy() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&path), 1);
    agent.reaches(&server).await;
    let long = "x".repeat(64 << 10);
    let mut largest = 0;
    for n in 0..60 {
        let Command::Register(mut register) = registration(1, Status::Passing) else { panic!("it is one") };
        register.checks[0].value.output = format!("{n} {long}").into();
        server.write(&log, Command::Register(register));
        server.source.flush(Uuid::from_u128(1), log.len());
        assert!(agent.following.wait_for(log.len(), SOON).await);
        largest = largest.max(std::fs::metadata(&path).map_or(0, |file| file.len()));
    }
    agent.stop().await;
    largest = largest.max(std::fs::metadata(&path).expect("it was written before the end").len());
    assert!(largest < 2 << 20, "{largest}");
    let mut store = Store::new();
    let _copy = DiskCopy::open(&path, &mut store).expect("it was just written");
    assert_eq!(store.state().position().index, log.len());
}
