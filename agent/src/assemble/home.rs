//! The data directory: made private, with the node's id in it; and the file with the process id.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use uuid::Uuid;

/// File with the node's UUID, as Consul has it.
const NODE_ID: &str = "node-id";

/// Makes the directory for this user alone, and shows that it can be written: the error names the path and the user.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    let user = rustix::process::geteuid().as_raw();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the data directory {} as user {user}", dir.display()))?;
    let probe = dir.join(".write-test");
    fs::write(&probe, b"")
        .and_then(|()| fs::remove_file(&probe))
        .with_context(|| format!("the data directory {} cannot be written by user {user}", dir.display()))
}

/// The node's id: the prescribed one, else the kept one, else a new one that is kept. A prescribed id other than the kept
/// one is refused: the catalog knows this directory's rows by the kept one.
pub(super) fn node_id(dir: Option<&Path>, prescribed: Option<Uuid>) -> Result<Uuid> {
    let Some(dir) = dir else { return Ok(prescribed.unwrap_or_else(Uuid::new_v4)) };
    let path = dir.join(NODE_ID);
    let kept = match fs::read_to_string(&path) {
        Ok(text) => Some(Uuid::parse_str(text.trim()).with_context(|| {
            format!(
                "{} holds {:?}, which is no UUID: write the node's id into it, or remove it for a new one",
                path.display(),
                text.trim()
            )
        })?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match (kept, prescribed) {
        (Some(kept), Some(prescribed)) if kept != prescribed => bail!(
            "node_id is {prescribed}, but {} says {kept}: take node_id out of the configuration, or give this node a data directory of its own",
            path.display()
        ),
        (Some(kept), _) => Ok(kept),
        (None, prescribed) => {
            let id = prescribed.unwrap_or_else(Uuid::new_v4);
            write_durably(dir, NODE_ID, id.to_string().as_bytes())?;
            Ok(id)
        }
    }
}

/// Writes this process's id.
pub(super) fn write_pid(path: &Path) -> Result<()> {
    fs::write(path, std::process::id().to_string()).with_context(|| format!("cannot write the pid_file {}", path.display()))
}

/// Takes the file away, unless another process has written its own id into it meanwhile.
pub(super) fn remove_pid(path: &Path) {
    if fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string())
        && let Err(error) = fs::remove_file(path)
    {
        tracing::warn!(%error, "the pid_file {} cannot be removed", path.display());
    }
}

/// The file is there whole, or not at all.
pub(super) fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (part, path) = (dir.join(format!("{name}.part")), dir.join(name));
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_keeps_its_id_and_refuses_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = node_id(Some(dir.path()), None).expect("a new id");
        assert_eq!(node_id(Some(dir.path()), None).expect("the kept id"), id);
        assert_eq!(node_id(Some(dir.path()), Some(id)).expect("the same id"), id);
        let error = node_id(Some(dir.path()), Some(Uuid::from_u128(1))).expect_err("another id").to_string();
        assert!(error.contains(&id.to_string()), "{error}");
        fs::write(dir.path().join(NODE_ID), "junk").expect("it can be written");
        assert!(node_id(Some(dir.path()), None).is_err());
    }
}
