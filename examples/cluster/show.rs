//! The table: in its place on a terminal, as lines of what changed elsewhere.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::look::Look;
use crate::told::HELP;

/// Notes that stay under the table.
const NOTES_MAX: usize = 5;
/// Lines above the place where one types: title, heading, six agents, notes, help and the blanks between.
const LINES: usize = 2 + 1 + 6 + 1 + NOTES_MAX + 1 + 2;

/// An age beyond this, some centuries, is that of a copy which no server has confirmed yet.
const NEVER_MS: u64 = 1 << 44;

/// Where it is shown.
pub struct Screen {
    terminal: bool,
    folder: String,
    notes: VecDeque<String>,
    /// What is shown now.
    looks: Vec<Look>,
}

impl Screen {
    /// An empty one.
    pub fn new(folder: &Path) -> Self {
        let screen = Self {
            terminal: std::io::stdout().is_terminal(),
            folder: folder.display().to_string(),
            notes: VecDeque::new(),
            looks: Vec::new(),
        };
        if screen.terminal {
            print!("\x1b[2J");
            screen.prompt();
        } else {
            println!("Six agents start; their data and logs are in {}. Type: {HELP}", screen.folder);
        }
        screen
    }

    /// Who leads, by the word of the leader itself.
    pub fn leader(&self) -> Option<&str> {
        self.looks.iter().find(|look| look.leads()).map(|look| look.name.as_str())
    }

    /// Something that happened.
    pub fn note(&mut self, note: String) {
        if !self.terminal {
            println!("{note}");
        }
        self.notes.push_back(note);
        if self.notes.len() > NOTES_MAX {
            self.notes.pop_front();
        }
    }

    /// A line was typed: the next one begins where it did.
    pub fn typed(&self) {
        if self.terminal {
            self.prompt();
        }
    }

    /// Shows what was seen.
    pub fn show(&mut self, looks: &[Look]) {
        if self.terminal {
            self.paint(looks);
        } else {
            // Ages grow all the time; what else changed is worth a line.
            let told = |look: &Look| {
                let mut look = look.clone();
                look.said = look.said.map(|said| crate::look::Said { age_ms: said.age_ms / 10_000 * 10_000, ..said });
                look
            };
            for (place, look) in looks.iter().enumerate() {
                if self.looks.get(place).map(told) != Some(told(look)) {
                    println!("{}", cells(look).join(" ").trim_end());
                }
            }
        }
        self.looks = looks.to_vec();
    }

    /// Leaves the terminal as it is wanted: with the cursor below all of it.
    pub fn leave(&self) {
        if self.terminal {
            println!();
        }
    }

    fn prompt(&self) {
        print!("\x1b[{};1H\x1b[J> ", LINES + 1);
        let _ = std::io::stdout().flush();
    }

    /// All lines at their places; the cursor returns to what is being typed.
    fn paint(&self, looks: &[Look]) {
        let mut lines = vec![format!("Data and logs: {}", self.folder), String::new()];
        lines.push(line(&HEADING.map(str::to_owned)));
        lines.extend(looks.iter().map(|look| line(&cells(look))));
        lines.push(String::new());
        lines.extend(self.notes.iter().cloned());
        lines.resize(LINES - 2, String::new());
        lines.push(HELP.to_owned());
        let mut text = "\x1b7\x1b[H".to_owned();
        for line in lines {
            text.push_str(&line);
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b8");
        print!("{text}");
        let _ = std::io::stdout().flush();
    }
}

const HEADING: [&str; 10] = ["agent", "pid", "address", "is", "leader", "alive", "web", "db", "DNS", "age"];
const WIDTHS: [usize; 10] = [9, 8, 12, 9, 12, 6, 4, 3, 4, 9];

fn line(cells: &[String; 10]) -> String {
    cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

fn cells(look: &Look) -> [String; 10] {
    let pid = look.pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string());
    let Some(said) = &look.said else {
        let is = if look.pid.is_some() { "silent" } else { "dead" };
        let blank = String::new;
        return [look.name.clone(), pid, look.address.clone(), is.into(), blank(), blank(), blank(), blank(), blank(), blank()];
    };
    let is = match (look.server, look.leads()) {
        (true, true) => "leader",
        (true, false) => "follower",
        (false, _) => "client",
    };
    let leader = said.leader.split(':').next().filter(|leader| !leader.is_empty()).unwrap_or("none");
    let alive = if said.failed == 0 { said.alive.to_string() } else { format!("{}-{}", said.alive, said.failed) };
    let age = match said.age_ms {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..NEVER_MS => format!("{:.1} s", ms as f64 / 1000.0),
        _ => "never".to_owned(),
    };
    [
        look.name.clone(),
        pid,
        look.address.clone(),
        is.into(),
        leader.to_owned(),
        alive,
        said.web.to_string(),
        said.db.to_string(),
        said.dns.to_string(),
        age,
    ]
}
