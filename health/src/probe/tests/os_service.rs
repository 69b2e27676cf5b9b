//! Services of the host: a program in the place of `systemctl` says how they are.

use std::os::unix::fs::PermissionsExt;

use muster_catalog::OsServiceProbe;

use super::*;

async fn see_service(systemctl: &str, name: &str, timeout: Duration) -> Outcome {
    let tools = Tools { systemctl: systemctl.to_owned(), ..Tools::default() };
    see_with(Probe::OsService(OsServiceProbe { name: name.to_owned() }), timeout, &tools).await
}

#[tokio::test]
async fn the_service_manager_is_asked_for_one_service_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("systemctl");
    let script = "#!/bin/sh\n\
        [ \"$1 $2 $3 $4\" = 'show --no-pager --property=LoadState,ActiveState,SubState --' ] && [ $# = 5 ] || exit 9\n\
        case $5 in web) a=active s=running ;; slow) sleep 60 ;; *) a=failed s=exit-code ;; esac\n\
        printf 'LoadState=loaded\\nActiveState=%s\\nSubState=%s\\n' $a $s\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.to_str().unwrap();
    let passed = Outcome::new(Status::Passing, "Service \"web\" is healthy".to_owned());
    assert_eq!(see_service(program, "web", LONG).await, passed);
    let failed = Outcome::critical("Service \"--now\" is failed (exit-code)".to_owned());
    assert_eq!(see_service(program, "--now", LONG).await, failed);
    let late = Outcome::critical("Timed out (300ms) running check".to_owned());
    assert_eq!(see_service(program, "slow", SHORT).await, late);
    let pattern = see_service(program, "we*", LONG).await;
    assert_eq!(pattern, Outcome::critical("OS service \"we*\": a pattern is no name of a service".to_owned()));
}

#[tokio::test]
async fn without_a_service_manager_it_is_critical_and_says_so() {
    let outcome = see_service("/nowhere/systemctl", "web", LONG).await;
    let said =
        "OS service \"web\" cannot be looked at, systemd is needed: fork/exec /nowhere/systemctl: no such file or directory";
    assert_eq!(outcome, Outcome::critical(said.to_owned()));
}
