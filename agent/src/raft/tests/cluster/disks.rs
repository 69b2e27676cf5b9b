//! What a server's directory is to the others: far behind, wiped, restored from an old copy, or all it knows of them.
#![allow(clippy::disallowed_methods)] // tests wait and measure

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fell_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::of(3, |config| (config.snapshot_threshold, config.trailing_logs) = (100, 10)).await;
    let leader = cluster.elected().await;
    let behind = cluster.members.iter().find(|member| member.id() != leader).unwrap().id();
    let behind = cluster.take(behind);
    let node = behind.node;
    behind.kill().await;
    let value = "v".repeat(100_000); // a snapshot of several pieces
    for number in 0..400 {
        cluster.set(&format!("k{}", number % 40), format!("{number} {value}")).await;
    }
    let purged = || {
        let data = cluster.leader().map(|leader| leader.raft.running.engine.data_metrics());
        data.is_some_and(|data| data.borrow_watched().purged.is_some_and(|purged| purged.index > 200))
    };
    eventually("the log that it needs is gone", purged).await;
    cluster.start(node).await;
    cluster.all_have("k39", &format!("399 {value}")).await;
    let member = cluster.members.iter().find(|member| member.node == node).unwrap();
    assert!(member.raft.status().last_snapshot_index > 200);
    // and lives on: a restart reads what it got
    let id = member.id();
    cluster.take(id).kill().await;
    cluster.start(node).await;
    cluster.set("later", "x").await;
    cluster.all_have("later", "x").await;
    cluster.all_have("k39", &format!("399 {value}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_is_a_new_voter_that_takes_the_place_of_the_old_one() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    cluster.set("a", "before").await;
    let leader = cluster.elected().await;
    let old = cluster.members.iter().find(|member| member.id() != leader).unwrap().id();
    let wiped = cluster.take(old);
    let node = wiped.node;
    wiped.kill().await;
    cluster.dirs.remove(&node);
    cluster.start(node).await;
    let new = cluster.members.iter().find(|member| member.node == node).unwrap().id();
    assert_ne!(new, old);
    // the old voter is looked for at that address: the new one refuses, and says which it is
    let leader = cluster.leader().unwrap();
    let target = crate::rpc::Target { node, raft: Some(old.uuid()) };
    let until = Instant::now() + PATIENCE;
    loop {
        let refused = leader.pool.call(target, Method::Ping, Vec::new(), PATIENCE).await.unwrap_err().to_string();
        if refused.contains(&old.to_string()) && refused.contains(&new.to_string()) {
            break;
        }
        assert!(Instant::now() < until, "{refused}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    leader.raft.add_server(new, node, &BTreeSet::new()).await.unwrap();
    cluster.all_have("a", "before").await;
    let voters: BTreeSet<RaftId> =
        cluster.leader().unwrap().raft.servers().iter().filter(|server| server.voter).map(|server| server.id).collect();
    assert_eq!(voters, cluster.members.iter().map(Member::id).collect(), "the old voter went in the same change");
    cluster.set("a", "after").await;
    cluster.all_have("a", "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_old_directory_counts_for_nothing() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    cluster.set("a", "1").await;
    cluster.all_have("a", "1").await;
    let leader = cluster.elected().await;
    let node = cluster.members.iter().find(|member| member.id() != leader).unwrap().node;
    let old = crash_image(cluster.dirs[&node].path());
    for number in 2..50 {
        cluster.set("a", number.to_string()).await;
    }
    let id = cluster.members.iter().find(|member| member.node == node).unwrap().id();
    if cluster.elected().await == id {
        // a leader that has its answers knows what it had
        cluster.leader().unwrap().raft.transfer_leader(None, PATIENCE).await.unwrap();
        cluster.set("a", "49").await;
    }
    cluster.all_have("a", "49").await;
    cluster.take(id).kill().await;
    cluster.dirs.insert(node, old);
    cluster.start(node).await;
    let leader = cluster.leader().unwrap().raft.clone();
    // it asks what was seen of it before it votes
    let failure = timeout(PATIENCE, cluster.members.last().unwrap().raft.failed()).await.expect("it stops");
    assert!(matches!(&failure, Failure::OldCopy { .. }) && failure.to_string().contains("old copy"), "{failure}");
    cluster.set("a", "50").await;
    // moved away and started again, it is a new server
    cluster.take(id).kill().await;
    cluster.dirs.remove(&node);
    cluster.start(node).await;
    let new = cluster.members.iter().find(|member| member.node == node).unwrap().id();
    leader.add_server(new, node, &BTreeSet::new()).await.unwrap();
    cluster.all_have("a", "50").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_find_each_other_by_the_kept_list() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    cluster.set("a", "1").await;
    eventually("the lists are kept", || cluster.dirs.values().all(|dir| dir.path().join("peers.json").exists())).await;
    while let Some(member) = cluster.members.pop() {
        member.kill().await;
    }
    // each is told its own address, and nobody else's
    for node in (1..=3).map(Uuid::from_u128) {
        let own = AddressBook::new();
        own.set(node, cluster.book.get(node).unwrap());
        let member = Member::start(node, Some(cluster.dirs[&node].path()), &own, |_| {}).await;
        let set = BTreeMap::from([(member.id(), node)]);
        assert!(!member.raft.is_pristine() && !member.raft.found(&set).await.unwrap(), "it belongs to a cluster");
        cluster.members.push(member);
    }
    cluster.elected().await;
    cluster.set("a", "2").await;
    cluster.all_have("a", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_server_that_may_have_peers_leads_at_once_after_a_restart() {
    let mut cluster = Cluster::of(1, |_| {}).await;
    cluster.set("a", "1").await;
    let leader = cluster.elected().await;
    cluster.take(leader).kill().await;
    let started = Instant::now();
    cluster.start(Uuid::from_u128(1)).await;
    timeout(PATIENCE, cluster.members[0].raft.settled()).await.expect("it leads").unwrap();
    println!("a lone server leads {:?} after its start", started.elapsed());
    assert_eq!(cluster.members[0].value("a").unwrap(), "1");
    cluster.set("a", "2").await;
}
