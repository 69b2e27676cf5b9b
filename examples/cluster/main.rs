//! What does a cluster look like, and what when parts of it die? Three servers and three clients, to kill and to start again.
//!
//! ```text
//! cargo run -p muster-examples --bin cluster                   until Ctrl-C, all in a folder that is removed at the end
//! cargo run -p muster-examples --bin cluster -- -dir PATH      in a folder that stays: the next start finds its catalog
//! cargo run -p muster-examples --bin cluster -- -net 127.0.9   at other loopback addresses than 127.0.1.x
//! cargo run -p muster-examples --bin cluster -- members -http-addr=127.0.1.1:8500       any command of muster
//! ```
//!
//! Each agent has an address of its own and all the usual ports on it. Type `kill leader`, `stop client-1`, `start servers`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // it is there to be looked at
#![allow(clippy::disallowed_methods)] // it shows how long things take

mod agents;
mod look;
mod show;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use agents::Agents;
use look::Look;
use show::Screen;
use told::Told;

/// How often all agents are looked at.
const LOOK: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    agents::end_with_parent();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| !first.starts_with('-')) {
        return muster::main();
    }
    match Options::read(&arguments).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What may be chosen.
struct Options {
    /// The first three parts of all addresses.
    net: String,
    /// Where everything is kept; `None` is a folder for this run alone.
    dir: Option<PathBuf>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Options { net: "127.0.1".to_owned(), dir: None };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            match (name.trim_start_matches('-'), arguments.next()) {
                ("net", Some(net)) => options.net.clone_from(net),
                ("dir", Some(dir)) => options.dir = Some(dir.into()),
                _ => bail!("-net 127.0.9 and -dir PATH may be given, not {name}"),
            }
        }
        Ok(options)
    }
}

/// Starts all of it, shows it, does what it is told, ends all of it.
#[tokio::main(flavor = "current_thread")]
async fn run(options: Options) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let begun = Instant::now();
    let mut agents = Agents::new(&options.net, options.dir)?;
    agents.start_all()?;
    let mut screen = Screen::new(agents.folder());
    let mut lines = typed();
    let mut found = false;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            Some(line) = lines.recv() => {
                screen.typed();
                match Told::read(&line, &agents, screen.leader()) {
                    Ok(Told::Nothing) => {}
                    Ok(Told::Quit) => break,
                    Ok(Told::Do(act, names)) => {
                        for name in names {
                            screen.note(agents.act(act, &name)?);
                        }
                    }
                    Err(error) => screen.note(error.to_string()),
                }
            }
            _ = tick.tick() => {
                for note in agents.ended() {
                    screen.note(note);
                }
                let looks = Look::at_all(agents.all()).await;
                if !found && looks.iter().all(|look| look.finds_all()) {
                    found = true;
                    screen.note(format!("after {:.1} s each of the six agents finds what runs beside the others", begun.elapsed().as_secs_f64()));
                }
                screen.show(&looks);
            }
        }
    }
    screen.leave();
    println!("Ending all agents.");
    agents.end().await;
    Ok(())
}

/// The lines that are typed. Its thread waits for the next one until the program ends.
fn typed() -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel(1);
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|text| line.blocking_send(text)));
    lines
}
