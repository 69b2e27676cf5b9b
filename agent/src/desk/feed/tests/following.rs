//! What a follower does as its servers come, go and fall behind.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_at_any_server_without_a_snapshot() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    (0..20).for_each(|node| log.write(registration(node, Status::Passing)));
    servers.iter().for_each(|server| server.catch_up(&log));
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    for round in 0..6 {
        log.write(registration(round, Status::Critical));
        log.write(removal(round + 7));
        servers.iter().for_each(|server| server.catch_up(&log));
        agent.reaches(&servers[0]).await;
        agent.servers.lock().expect("nobody panics").rotate_left(1);
        agent.cut();
        log.write(registration(round + 7, Status::Warning));
        servers.iter().for_each(|server| server.catch_up(&log));
        agent.reaches(&servers[0]).await;
    }
    let firsts = agent.firsts();
    assert_eq!(firsts[0], None);
    assert!(firsts.len() > 1 && firsts[1..].iter().all(Option::is_some), "{firsts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_just_restarted_goes_on_with_all_its_followers() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agents: Vec<_> = (0..50).map(|id| Agent::start(&mut tasks, from_ref(&server), None, id)).collect();
    for agent in &agents {
        agent.reaches(&server).await;
    }
    let again = Server::new(&mut tasks);
    log.write(removal(3));
    log.write(registration(4, Status::Critical));
    again.catch_up(&log);
    for agent in &agents {
        *agent.servers.lock().expect("nobody panics") = [again.clone()].into();
        agent.cut();
    }
    for agent in &agents {
        agent.reaches(&again).await;
        assert_eq!(agent.firsts(), [None, Some(22)]);
    }
    assert!(again.source.encoded() <= 3, "the tables were looked through for each: {}", again.source.encoded());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_knows_less_makes_its_follower_wait() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    (0..10).for_each(|node| log.write(registration(node, Status::Passing)));
    servers[0].catch_up(&log);
    servers[1].apply(&log, 5);
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    let at = agent.following.position();
    agent.servers.lock().expect("nobody panics").rotate_left(1);
    agent.cut();
    eventually("the other server is heard", || agent.cuts.lock().expect("nobody panics").len() == 1).await;
    servers[1].apply(&log, 8);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(agent.following.position(), at);
    assert!(agent.following.age().last_contact > Some(Duration::from_secs(1)), "who knows less confirms nothing");
    log.write(removal(2));
    servers[1].catch_up(&log);
    agent.reaches(&servers[1]).await;
    let firsts = agent.firsts();
    assert!(firsts.len() == 2 && firsts[1] <= Some(at.index) && firsts[1].is_some(), "{firsts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_is_taken_from_a_server_that_is_sure_of_it() {
    let (mut tasks, old, new) = (JoinSet::new(), Log::new(), Log::default());
    new.write(Command::OpenRun);
    new.write(Command::Found(Uuid::from_u128(8)));
    new.write(registration(1, Status::Passing));
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    (0..10).for_each(|node| servers[0].write(&old, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    let at = agent.following.position();
    servers[1].caught_up.store(false, Ordering::Relaxed);
    servers[1].catch_up(&new);
    agent.servers.lock().expect("nobody panics").rotate_left(1);
    agent.cut();
    eventually("the other server is heard", || agent.cuts.lock().expect("nobody panics").len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(agent.following.position(), at, "it may be that server that is behind");
    servers[1].caught_up.store(true, Ordering::Relaxed);
    agent.reaches(&servers[1]).await;
    assert_eq!(agent.following.position(), Position { history: Some(Uuid::from_u128(8)), index: 3 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_wakes_who_waits_for_it() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, from_ref(&server), None, 1);
    agent.reaches(&server).await;
    let ask = |name: &str| HealthService { name: ServiceName::new(name).expect("a name"), tags: vec![], node_meta: vec![] };
    let (one, other) = (ask("web-3"), ask("web-4"));
    let bell = |ask: &HealthService| agent.bells.take(&Topic::Health(ask.name.clone()));
    let (bell, quiet) = (bell(&one), bell(&other));
    let (mut rung, mut rings) = (Box::pin(bell.rung()), Box::pin(quiet.rung()));
    rung.as_mut().enable();
    rings.as_mut().enable();
    let before = one.index(&agent.reader.load());
    server.write(&log, registration(13, Status::Critical));
    timeout(SOON, rung).await.expect("the bell rings");
    assert!(one.index(&agent.reader.load()) > before);
    assert_eq!(one.look(&agent.reader.load())[0].checks[0].status, Status::Critical);
    assert!(timeout(Duration::from_millis(50), rings).await.is_err(), "nobody waits in vain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_left_and_the_age_is_told() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let (following, follower) = Follower::new(Store::new(), Bells::new(), None, None, None, SmallRng::seed_from_u64(1));
    assert_eq!(following.age(), Age { known_leader: false, last_contact: None });
    let connects = Arc::new(Mutex::new(0));
    let connect = {
        let (server, connects) = (server.clone(), connects.clone());
        move |at| {
            let first = std::mem::replace(&mut *connects.lock().expect("nobody panics"), 1) == 0;
            let frames = server.source.subscribe(Uuid::from_u128(1), at, None).map(Ok);
            let frames: Frames = if first {
                frames.take(2).chain(futures_util::stream::pending()).boxed()
            } else {
                futures_util::stream::pending().boxed()
            };
            async move { Ok(Feed { server: Uuid::nil(), frames }) }
        }
    };
    tasks.spawn(follower.run(connect, |_, _| {}, pending()));
    eventually("the server is heard", || following.age().last_contact.is_some() && following.server().is_some()).await;
    assert!(following.age().known_leader);
    assert!(following.age().last_contact.expect("it was heard") >= Duration::from_millis(3));
    eventually("the server is left", || !following.age().known_leader && following.server().is_none()).await;
    let age = following.age().last_contact.expect("it was heard");
    assert!(age >= Duration::from_secs(3), "{age:?}");
    assert_eq!(following.position().index, log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_off_is_left_for_another() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    log.write(registration(1, Status::Passing));
    servers.iter().for_each(|server| server.catch_up(&log));
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    eventually("a leader is known", || agent.following.age().known_leader).await;
    servers[0].known_leader.store(false, Ordering::Relaxed);
    eventually("none is known", || !agent.following.age().known_leader).await;
    servers[1].write(&log, registration(1, Status::Critical));
    agent.servers.lock().expect("nobody panics").rotate_left(1);
    agent.reaches(&servers[1]).await;
    assert_eq!(agent.firsts().len(), 2);
}
