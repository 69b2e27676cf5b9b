//! Programs written for Consul: whether they are on this machine, and how they are run.
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::unwrap_used, dead_code, unreachable_pub)] // tests may fail; each uses its part of this

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A child of a test; killed when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where clients are kept between runs.
pub fn kept() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients")
}

pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Whether the client is there, after an attempt to get it where that is wanted.
pub fn had(name: &str, there: impl Fn() -> bool, install: Option<&mut Command>) -> bool {
    let mode = std::env::var("MUSTER_TEST_CLIENTS").unwrap_or_default();
    let wanted = mode == "install" || mode == "require";
    // Two tests may want the same one: it is made once, and whole before it is run.
    static GETTING: Mutex<()> = Mutex::new(());
    let _one = GETTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let (true, false, Some(command)) = (wanted, there(), install) {
        std::fs::create_dir_all(kept()).unwrap();
        match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("{name}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    let there = there();
    assert!(there || mode != "require", "{name} cannot be had on this machine");
    if !there {
        // Past the harness, which would keep the words of a test that passes.
        let _ = writeln!(std::io::stderr(), "not run: {name} is not on this machine");
    }
    there
}

pub fn answers(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether a Go program of ours is there, made of what its folder holds now.
pub fn built(name: &str) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    let sources = std::fs::read_dir(programs().join(name)).unwrap().map(|entry| changed(&entry.unwrap().path()));
    changed(&kept().join(name)) > sources.max().flatten()
}

/// Runs a client's program to its end.
pub fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Builds a Go program of this name.
pub fn go(name: &str) -> Command {
    go_package(name, ".")
}

/// Builds a Go program of a package that is named in the folder's `go.mod`.
pub fn go_package(name: &str, package: &str) -> Command {
    let mut build = Command::new("go");
    build.current_dir(programs().join(name)).env("GOFLAGS", "-mod=mod");
    build.args(["build", "-buildvcs=false", "-o"]).arg(kept().join(name)).arg(package);
    build
}

/// Gets a Python package.
pub fn python(package: &str) -> Command {
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--target"]).arg(kept().join("python")).arg(package);
    install
}

/// A real Consul: the one that `CONSUL_BIN` names, or Debian's.
pub fn consul() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("CONSUL_BIN") {
        return Some(program.into());
    }
    let folder = kept().join("consul");
    let program = folder.join("usr/bin/consul");
    let mut get = Command::new(programs().join("consul.sh"));
    had("Consul", || answers(&program.to_string_lossy(), "version"), Some(get.arg(folder))).then_some(program)
}
