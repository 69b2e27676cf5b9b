//! `snapshot save|restore|inspect`: all of the catalog as a file, and back.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use muster_catalog::Survey;
use serde_json::json;

use super::client::Client;
use super::error::Error;
use super::print::{Format, Out};
use super::remote::QueryArgs;
use super::table::Table;
use super::target::Target;
use crate::desk::archive::{Archive, Origin};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Save all of the catalog to a file
    Save(Save),
    /// Put what a file holds into the place of the whole catalog
    Restore(Restore),
    /// Say what is in a file
    Inspect(Inspect),
}

#[derive(Args, Debug)]
pub(crate) struct Save {
    /// The file; one that is there is replaced once the new one is whole.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    /// Say how much is under which keys.
    #[arg(long)]
    kvdetails: bool,

    /// With -kvdetails: by so many parts of a key.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    kvdepth: usize,

    /// With -kvdetails: only keys that begin with this.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    kvfilter: String,
}

impl Command {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        match self {
            Command::Save(save) => save.run(out).await,
            Command::Restore(restore) => restore.run(out).await,
            Command::Inspect(inspect) => inspect.run(out),
        }
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::File { path: path.to_owned(), fault: error.to_string() }
}

/// Reads and checks all of a file.
fn survey(path: &Path, detail: Option<(usize, String)>) -> Result<(Origin, Survey), Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let read = Archive::open(file).and_then(|archive| archive.survey(detail));
    read.map_err(|error| Error::File { path: path.to_owned(), fault: error.to_string() })
}

impl Save {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let mut unverified = self.file.clone().into_os_string();
        unverified.push(".unverified");
        let unverified = PathBuf::from(unverified);
        let saved = self.save(&unverified).await;
        if saved.is_err() {
            let _ = fs::remove_file(&unverified); // It is of no use to anybody.
        }
        out.line(format_args!("Saved and verified snapshot to index {}", saved?))
    }

    async fn save(&self, unverified: &Path) -> Result<u64, Error> {
        let mut file = File::create(unverified).map_err(|error| failed(unverified, &error))?;
        let target = self.query.reading(Target::at("/v1/snapshot"));
        let mut client = Client::new(&self.query.agent)?;
        client.pieces(&target, |piece| file.write_all(piece).map_err(|error| failed(unverified, &error))).await?;
        file.sync_all().map_err(|error| failed(unverified, &error))?;
        let (origin, _) = survey(unverified, None)?;
        fs::rename(unverified, &self.file).map_err(|error| failed(&self.file, &error))?;
        Ok(origin.index)
    }
}

impl Restore {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let file = File::open(&self.file).map_err(|source| Error::Read { path: self.file.clone(), source })?;
        let target = self.query.writing(Target::at("/v1/snapshot"));
        Client::new(&self.query.agent)?.put_file(&target, file).await?.done()?;
        out.line("Restored snapshot")
    }
}

impl Inspect {
    fn run(self, out: &mut Out) -> Result<(), Error> {
        let detail = self.kvdetails.then(|| (self.kvdepth.max(1), self.kvfilter.clone()));
        let (origin, survey) = survey(&self.file, detail)?;
        let size = match origin.size {
            0 => fs::metadata(&self.file).map_err(|error| failed(&self.file, &error))?.len(), // the first form does not say
            size => size,
        };
        match self.format {
            Format::Json => out.json(&document(&origin, &survey, size)),
            Format::Pretty => tell(&origin, &survey, size, out),
        }
    }
}

fn document(origin: &Origin, survey: &Survey, size: u64) -> serde_json::Value {
    let list = |counts: &mut dyn Iterator<Item = (&str, (u64, u64))>| -> Vec<serde_json::Value> {
        counts.map(|(name, (count, sum))| json!({ "Name": name, "Count": count, "Sum": sum })).collect()
    };
    json!({
        "Meta": {
            "ID": origin.id.to_string(),
            "Size": size,
            "Index": origin.index,
            "Term": origin.term,
            "Version": origin.version,
            "Muster": origin.muster,
        },
        "Stats": list(&mut survey.kinds.iter().map(|(name, counts)| (*name, *counts))),
        "StatsKV": list(&mut survey.keys.iter().map(|(name, counts)| (name.as_str(), *counts))),
        "TotalSize": survey.kinds.values().map(|(_, sum)| sum).sum::<u64>(),
    })
}

fn tell(origin: &Origin, survey: &Survey, size: u64, out: &mut Out) -> Result<(), Error> {
    let mut head = Table::plain(11);
    for (name, value) in [
        ("ID", origin.id.to_string()),
        ("Size", size.to_string()),
        ("Index", origin.index.to_string()),
        ("Term", origin.term.to_string()),
        ("Version", origin.version.to_string()),
    ] {
        head.row([name.to_owned(), value]);
    }
    out.line(head)?;
    out.line("")?;
    let mut kinds = Table::headed(&["Type", "Count", "Size"]);
    for (name, (count, sum)) in &survey.kinds {
        kinds.row([(*name).to_owned(), count.to_string(), format!("{sum}B")]);
    }
    out.line(kinds)?;
    if survey.detail.is_some() {
        out.line("")?;
        let mut keys = Table::headed(&["Key Name", "Count", "Size"]);
        for (name, (count, sum)) in &survey.keys {
            keys.row([name.clone(), count.to_string(), format!("{sum}B")]);
        }
        out.line(keys)?;
    }
    Ok(())
}
