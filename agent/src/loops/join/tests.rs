//! An agent that looks for others.

use rand::SeedableRng as _;

use super::*;
use crate::desk::Standing;
use crate::desk::testing::{OWN, Others, member};

/// What does not happen within this long does not happen.
const SOON: Duration = Duration::from_secs(20);

fn finding(others: &Others, places: &[&str], attempts_max: Option<u32>, peers: Peers) -> Finding {
    let addresses = places.iter().map(|text| JoinAddress::parse(text).unwrap()).collect();
    let joining = Joining { addresses, interval: Duration::from_millis(50), attempts_max };
    Finding { cluster: others.cluster(), own: OWN, joining, peers, chance: SmallRng::seed_from_u64(1) }
}

fn nobody() -> Peers {
    Peers::open(None).unwrap()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn who_meets_nobody_gives_up_after_the_attempts_it_was_given() {
    let others = Others::new(&[]);
    let gave_up = finding(&others, &["127.0.0.2"], Some(2), nobody()).run();
    let gave_up = tokio::time::timeout(SOON, gave_up).await.expect("it gives up");
    assert_eq!((gave_up.attempts, others.asked().len()), (2, 2));
    assert_eq!(gave_up.to_string(), "nobody could be joined in 2 attempts, which is retry_max");
}

#[tokio::test]
async fn attempts_go_on_until_somebody_answers_and_begin_again_when_all_are_lost() {
    let others = Others::new(&[]);
    let dir = tempfile::tempdir().unwrap();
    let peers = Peers::open(Some(dir.path())).unwrap();
    let finding = finding(&others, &["127.0.0.2"], Some(100), peers).run();
    let told = async {
        eventually("two attempts", || others.asked().len() >= 2).await;
        others.answer(&[member(2, "consul")]);
        let cluster = others.cluster();
        eventually("it is joined", || !cluster.is_alone()).await;
        eventually("it is kept", || Peers::open(Some(dir.path())).unwrap().kept().len() == 1).await;
        let before = others.asked().len();
        others.answer(&[]);
        let mut lost = member(2, "consul");
        lost.standing = Standing::Failed;
        others.set(&[member(1, "consul"), lost]);
        eventually("it is looked for again", || others.asked().len() > before).await;
        assert_eq!(Peers::open(Some(dir.path())).unwrap().kept().len(), 1, "who lost everybody keeps those it had");
    };
    tokio::select! {
        gave_up = finding => panic!("{gave_up}"),
        () = told => {}
    }
}

#[tokio::test]
async fn members_of_a_former_run_are_asked_first() {
    let others = Others::new(&[member(2, "consul")]);
    let dir = tempfile::tempdir().unwrap();
    let mut peers = Peers::open(Some(dir.path())).unwrap();
    peers.keep(OWN, &[member(1, "consul"), member(2, "consul")]).unwrap();
    let finding = finding(&others, &[], None, peers).run();
    let cluster = others.cluster();
    tokio::select! {
        gave_up = finding => panic!("{gave_up}"),
        () = eventually("it is joined", || !cluster.is_alone()) => {}
    }
    assert_eq!(others.asked(), [vec!["127.0.0.2:8301".parse().unwrap()]]);
}

#[tokio::test]
async fn who_knows_of_nobody_waits_to_be_met() {
    let others = Others::new(&[]);
    let finding = finding(&others, &[], Some(1), nobody()).run();
    let told = async {
        sleep(Duration::from_millis(300)).await;
        others.set(&[member(1, "consul"), member(2, "node")]);
        sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        gave_up = finding => panic!("{gave_up}"),
        () = told => {}
    }
    assert!(others.asked().is_empty());
}
