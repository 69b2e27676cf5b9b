//! What a source gives to many.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_is_written_once_for_all_followers() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..10).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agents: Vec<_> = (100..200).map(|id| Agent::start(&mut tasks, from_ref(&server), None, id)).collect();
    for agent in &agents {
        agent.reaches(&server).await;
        assert_eq!(agent.firsts(), [None]);
    }
    let before = server.source.encoded();
    assert!(before <= 5, "{before} snapshots for a hundred that came together");
    for round in 0..5 {
        server.write(&log, registration(3, if round % 2 == 0 { Status::Critical } else { Status::Passing }));
        for agent in &agents {
            agent.reaches(&server).await;
        }
    }
    assert_eq!(server.source.encoded() - before, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_the_read_index_is_not_kept_waiting() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agents = [11, 12].map(|id| Agent::start(&mut tasks, from_ref(&server), None, id));
    for agent in &agents {
        agent.reaches(&server).await;
    }
    // Keys are not fed, so nothing but a beat would tell that the log went on.
    let set = KvVerb::Set { value: "v".into(), flags: 0, cas: None };
    let before = server.source.encoded();
    server.write(&log, Command::Kv(Kv { key: "k".into(), verb: set }));
    server.source.flush(Uuid::from_u128(11), log.len());
    assert!(agents[0].following.wait_for(log.len(), SOON).await);
    assert!(server.source.encoded() - before <= 2);
    agents[1].reaches(&server).await; // with the next beat
    assert!(!agents[1].following.wait_for(log.len() + 1, Duration::from_millis(1)).await);
    // What was sent ahead is sent to the others later, and changes nothing for the first.
    for node in 0..50 {
        server.write(&log, registration(node, Status::Passing));
        server.source.flush(Uuid::from_u128(11), log.len());
        assert!(agents[0].following.wait_for(log.len(), SOON).await);
    }
    for agent in &agents {
        agent.reaches(&server).await;
        assert_eq!(agent.firsts()[0], None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_a_server_that_has_not_applied_it_yet_is_told_when_it_has() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agent = Agent::start(&mut tasks, from_ref(&server), None, 11);
    agent.reaches(&server).await;
    for n in 0..20 {
        let set = KvVerb::Set { value: format!("{n}").into(), flags: 0, cas: None };
        log.write(Command::Kv(Kv { key: "k".into(), verb: set }));
        server.source.flush(Uuid::from_u128(11), log.len());
        assert!(!agent.following.wait_for(log.len(), Duration::from_millis(1)).await);
        server.catch_up(&log);
        assert!(agent.following.wait_for(log.len(), SOON).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_is_told_of_its_own_writes_at_once() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let writer = Agent::start(&mut tasks, from_ref(&server), None, 1);
    let other = Agent::start(&mut tasks, from_ref(&server), None, 2);
    for agent in [&writer, &other] {
        agent.reaches(&server).await;
    }
    for n in 0..40 {
        let set = KvVerb::Set { value: format!("{n}").into(), flags: 0, cas: None };
        server.write(&log, Command::Kv(Kv { key: "k".into(), verb: set }));
        assert!(writer.following.wait_for(log.len(), SOON).await);
        server.write(&log, registration(n, Status::Passing));
        assert!(writer.following.wait_for(log.len(), SOON).await);
        assert_eq!(fed(&writer.reader), fed(&server.reader()));
    }
    other.reaches(&server).await;
    assert_eq!((writer.firsts(), other.firsts()), (vec![None], vec![None]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_between_changes_are_passed_over_with_the_next_one() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agent = Agent::start(&mut tasks, from_ref(&server), None, 11);
    agent.reaches(&server).await;
    let before = server.source.encoded();
    for n in 0..300 {
        let verb = if n % 3 == 2 {
            KvVerb::Delete { cas: None }
        } else {
            KvVerb::Set { value: format!("{n}").into(), flags: 0, cas: None }
        };
        server.write(&log, Command::Kv(Kv { key: format!("k{}", n / 3).into(), verb }));
    }
    server.write(&log, registration(1, Status::Critical));
    agent.reaches(&server).await;
    assert!(server.source.encoded() - before <= 3, "one change, and a beat or two");
    assert_eq!(agent.firsts(), [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_less_and_misses_nothing() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let mut slow = Box::pin(server.source.subscribe(Uuid::from_u128(1), Position::default(), None));
    let quick = Agent::start(&mut tasks, from_ref(&server), None, 2);
    let mut store = Store::new();
    let mut intake = Intake::new();
    let mut take = |frame: Bytes, store: &mut Store| {
        for incoming in intake.take(&frame).expect("a source makes sense") {
            if let Incoming::Batch(batch) = incoming {
                store.enter(*batch).expect("it goes on");
            }
        }
    };
    take(slow.next().await.expect("a beat"), &mut store);
    take(slow.next().await.expect("everything"), &mut store);
    // More than the ring holds.
    let long = "x".repeat(8 << 10);
    for n in 0..20 {
        for node in 0..40 {
            let Command::Register(mut register) = registration(node, Status::Passing) else { panic!("it is one") };
            register.checks[0].value.output = format!("{n} {long}").into();
            log.write(Command::Register(register));
        }
        server.catch_up(&log);
        quick.reaches(&server).await;
    }
    let to = server.reader().load().position();
    let mut frames = 0;
    while store.state().position() != to {
        take(timeout(SOON, slow.next()).await.expect("it goes on").expect("the server runs"), &mut store);
        frames += 1;
    }
    assert!(frames < 10, "{frames} frames: all that was missed came one by one");
    store.publish();
    assert_eq!(fed(&store.reader()), fed(&server.reader()));
}
