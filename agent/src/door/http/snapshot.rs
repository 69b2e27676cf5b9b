//! `/v1/snapshot`: all of the catalog as a file, and back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use http::Method;
use uuid::Uuid;

use super::Door;
use super::call::{Answering, Call, Handler, Route};
use super::error::HttpError;
use super::options::{Family, ReadOptions};
use super::reply::{Meta, Reply};

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/v1/snapshot",
    methods: &[(Method::GET, Handler::Soon(save)), (Method::PUT, Handler::Soon(restore))],
    namespaced: false,
}];

/// Largest file that is taken: some millions of keys, packed.
const FILE_BYTES_MAX: u64 = 1 << 30;

fn save(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        ReadOptions::read(&door, &call.query, &call.headers, Family::Kv)?;
        door.must_be_here(&call)?;
        let stale = call.query.has("stale");
        let saved = door.desk.save(&{ call }.who, stale).await?;
        let meta = Meta { index: saved.index, known_leader: saved.known_leader, last_contact_ms: saved.last_contact_ms };
        Ok(Reply::stream("application/x-gzip", saved.pieces).with_meta(meta))
    })
}

/// The file is kept on disk until it was read to its end: it must be whole before anything is written.
fn restore(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let Call { body, who, .. } = call;
        let dir = door.facts.config().data_dir.clone().unwrap_or_else(std::env::temp_dir);
        let file = nameless(&dir).map_err(|error| HttpError::Server(format!("no file can be kept here: {error}")))?;
        let writer = file.try_clone().map_err(|error| HttpError::Server(error.to_string()))?;
        body.write_to(tokio::fs::File::from_std(writer), FILE_BYTES_MAX).await?;
        door.desk.restore(&who, file).await?;
        Ok(Reply::nothing())
    })
}

/// A file that is gone when it is closed, or the process ends.
fn nameless(dir: &std::path::Path) -> io::Result<File> {
    let path = dir.join(format!("restore-{}", Uuid::new_v4()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
