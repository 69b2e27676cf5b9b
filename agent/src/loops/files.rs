//! Files of the configuration that change (`auto_reload_config`): they are read again.
#![allow(clippy::disallowed_methods)] // files are looked at once in a while

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::desk::{Desk, Order, Who};

/// Time between two looks: listing a directory of some hundred files takes under a millisecond.
const LOOK: Duration = Duration::from_secs(1);
/// Files that are looked at: more are no configuration.
const FILES_MAX: usize = 10_000;

/// Reads the configuration again whenever one of these files, or one in these directories, has changed and is left alone for a
/// second: who writes several is not interrupted.
pub(crate) async fn follow_files(desk: Desk, paths: Vec<PathBuf>) {
    let mut stop = std::pin::pin!(desk.stopping());
    let (mut taken, mut last) = (look(&paths), look(&paths));
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = sleep(LOOK) => {}
        }
        let seen = std::mem::replace(&mut last, look(&paths));
        if last != seen || last == taken {
            continue;
        }
        taken.clone_from(&last);
        tracing::info!("files of the configuration have changed");
        if let Err(error) = desk.obey(&Who::outside("auto_reload_config", None), Order::Reload).await {
            tracing::error!(%error, "the configuration is as it was");
        }
    }
}

/// What tells one state of a file from another.
type Looks = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

fn look(paths: &[PathBuf]) -> Looks {
    let inside = |path: &PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = paths.iter().flat_map(|path| std::iter::once(path.clone()).chain(inside(path)));
    let about = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok()?;
        Some((path, (meta.modified().ok(), meta.len())))
    };
    all.take(FILES_MAX).filter_map(about).collect()
}
