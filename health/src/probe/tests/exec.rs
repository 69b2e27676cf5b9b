//! Programs: their ends, their outputs, their timeouts.

use super::*;

#[tokio::test]
async fn exit_codes_become_verdicts_and_both_streams_are_kept() {
    for (script, status, output) in [
        ("echo fine", Status::Passing, "fine\n"),
        ("echo hm; exit 1", Status::Warning, "hm\n"),
        ("echo out; echo bad >&2; exit 2", Status::Critical, "out\nbad\n"),
        ("kill -9 $$", Status::Critical, ""),
    ] {
        let outcome = see_exec(&["/bin/sh", "-c", script], LONG).await;
        assert_eq!(outcome, Outcome::new(status, output.to_owned()), "{script}");
    }
}

#[tokio::test]
async fn no_shell_reads_the_arguments() {
    let outcome = see_exec(&["echo", "$HOME; echo two", "*"], LONG).await;
    assert_eq!(outcome.output, "$HOME; echo two *\n");
}

#[tokio::test]
async fn a_long_output_is_cut_to_its_end() {
    let outcome = see_exec(&["/bin/sh", "-c", "head -c 5000 /dev/zero | tr '\\0' y"], LONG).await;
    assert_eq!(outcome.output, format!("Captured 4096 of 5000 bytes\n...\n{}", "y".repeat(4096)));
}

#[tokio::test]
async fn a_program_that_cannot_start_is_critical_at_once() {
    for (args, said) in [
        (vec!["/no/such/program"], "fork/exec /no/such/program: no such file or directory"),
        (vec!["no-such-program"], "exec: \"no-such-program\": executable file not found in $PATH"),
        (vec!["/etc/passwd"], "fork/exec /etc/passwd: permission denied"),
        (vec![], "no program given"),
    ] {
        let outcome = see_exec(&args, LONG).await;
        assert_eq!(outcome, Outcome { at_once: true, ..Outcome::critical(said.to_owned()) });
    }
}

#[tokio::test]
async fn at_the_timeout_a_script_says_what_it_had_said() {
    let begun = Instant::now();
    let outcome = see_exec(&["/bin/sh", "-c", "echo begun; sleep 60"], SHORT).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let said = "Timed out (300ms) running check\n\nbegun\n".to_owned();
    assert_eq!(outcome, Outcome { at_once: true, ..Outcome::critical(said) });
    let quiet = see_exec(&["sleep", "60"], SHORT).await;
    assert_eq!(quiet.output, "Timed out (300ms) running check");
}

#[tokio::test]
async fn who_left_the_group_and_holds_the_pipe_is_not_waited_for() {
    let begun = Instant::now();
    let outcome = see_exec(&["/bin/sh", "-c", "echo mine; setsid sleep 3 & exit 0"], SHORT).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((outcome.status, outcome.at_once), (Status::Critical, true));
}

#[tokio::test]
async fn a_program_that_closes_its_streams_is_waited_for_until_the_timeout() {
    let outcome = see_exec(&["/bin/sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 1"], LONG).await;
    assert_eq!(outcome.status, Status::Warning);
    let begun = Instant::now();
    let outcome = see_exec(&["/bin/sh", "-c", "exec >&- 2>&-; exec sleep 60"], SHORT).await;
    assert!(outcome.at_once && begun.elapsed() < Duration::from_secs(2));
}
