//! Starts what answers, and ends it.
#![allow(clippy::disallowed_methods)] // seeds for the threads' spreading of load

use std::future::Future;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use muster_catalog::Reader;
use socket2::Socket;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::later::{self, Lanes};
use super::recursors::Recursors;
use super::shared::Shared;
use super::sockets::Sockets;
use super::{tcp, udp};
use crate::beyond::Beyond;
use crate::config::{Config, Settings};
use crate::error::Error;

/// DNS out of what `reader` sees: the newest published state.
/// `beyond` tells how old it is, and brings newer rows where that is too old.
pub fn new(config: Config, reader: Reader, beyond: Beyond) -> Result<(Handle, Driver), Error> {
    let recursors = Arc::new(Recursors::new(&config, &[]));
    let settings = ArcSwap::from_pointee(Settings::new(&config)?);
    let shared = Arc::new(Shared::new(reader, settings, beyond, (config, recursors)));
    Ok((Handle { shared: shared.clone() }, Driver { shared }))
}

/// Exchanges settings while DNS answers.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// From the next batch of queries on, these settings hold. If they cannot be, the old ones go on.
    pub fn configure(&self, config: Config) -> Result<(), Error> {
        self.shared.settings.store(Arc::new(Settings::new(&config)?));
        self.shared.recur(config);
        Ok(())
    }
}

/// Answers.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
}

impl Driver {
    /// Answers on `sockets` until `shutdown` comes or this future is dropped. UDP has a thread a socket; connections are tasks of
    /// this future.
    pub async fn run(self, sockets: Sockets, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Sockets { udp, tcp, addresses } = sockets;
        self.shared.listen(&addresses);
        let (late, rows, outside) = Lanes::new();
        let mut threads = Threads { shared: self.shared.clone(), late, sockets: Vec::new(), threads: Vec::new() };
        for socket in udp.into_iter().flatten() {
            threads.start(socket)?;
        }
        let mut listeners = JoinSet::new();
        for waiting in [rows, outside] {
            listeners.spawn(later::serve(self.shared.clone(), waiting));
        }
        for (listener, address) in tcp.into_iter().zip(addresses) {
            let listener =
                TcpListener::from_std(listener).map_err(|source| Error::Listen { transport: "TCP", address, source })?;
            listeners.spawn(tcp::serve(listener, self.shared.clone()));
        }
        let mut shutdown = pin!(shutdown);
        (&mut shutdown).await;
        listeners.shutdown().await;
        // They are woken at once; to wait for them must not hold up a worker of the runtime all the same.
        let _ = tokio::task::spawn_blocking(move || drop(threads)).await;
        Ok(())
    }
}

/// Threads that end when this does.
struct Threads {
    shared: Arc<Shared>,
    late: Lanes,
    sockets: Vec<Arc<Socket>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(&mut self, socket: Socket) -> Result<(), Error> {
        let socket = Arc::new(socket);
        self.sockets.push(socket.clone());
        let (shared, late, seed) = (self.shared.clone(), self.late.clone(), rand::random());
        let thread = std::thread::Builder::new().name("dns-udp".to_owned());
        self.threads.push(thread.spawn(move || udp::serve(&socket, &shared, &late, seed)).map_err(Error::Thread)?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        for socket in &self.sockets {
            // Wakes the thread that waits in it; that the socket "is not connected" is always said and does not matter.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a DNS thread had panicked");
            }
        }
    }
}
