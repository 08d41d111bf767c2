//! Carries TCP connections from a listener to the first target that answers.
//!
//! Why in user space: the lab is reached from the machine without any rule, route or
//! interface in the machine's own network. The listeners are opened on the machine, the
//! connections to the targets by a thread inside the lab's network namespace.
//!
//! Invariants: a target that is known to be down is not tried; a connection is tried on
//! every other target before it is given up; it ends when its target goes down, because a
//! dead host sends no farewell and its clients would wait for minutes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest wait for one target; they are on the same machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Connections that one listener carries at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;

/// Somewhere a connection can go to.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// Whether it is known to be up.
    pub usable: watch::Receiver<bool>,
}

/// Listens on 127.0.0.1, on the wanted port if it is free, else on any.
pub fn listen_on_loopback(wanted: Option<u16>) -> io::Result<StdListener> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match wanted.map(|port| StdListener::bind(at(port))) {
        Some(Ok(listener)) => Ok(listener),
        // Somebody else has it by now, or there was none.
        _ => StdListener::bind(at(0)),
    }
}

/// One listener and where its connections go, in order of preference.
#[derive(Debug)]
pub struct Forwarder {
    listener: StdListener,
    targets: Arc<Vec<Target>>,
}

impl Forwarder {
    pub fn new(listener: StdListener, targets: Vec<Target>) -> Self {
        Self { listener, targets: Arc::new(targets) }
    }

    /// Runs until cancelled; the connections are made in the network namespace of the
    /// thread that polls this.
    pub async fn run(self, cancel: CancellationToken) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(self.listener)?;
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                Some(_) = open.join_next(), if !open.is_empty() => {}
                accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                    Ok((client, _)) => {
                        let targets = Arc::clone(&self.targets);
                        open.spawn(async move { carry(client, &targets).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        // Out of descriptors or memory: serve the open connections first.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }
}

async fn carry(mut client: TcpStream, targets: &[Target]) {
    let Some((mut server, mut usable)) = connect_first(targets).await else {
        tracing::debug!(?targets, "no target answers");
        return;
    };
    // Either side may vanish at any time; that ends the connection and is no fault of ours.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = usable.wait_for(|usable| !usable) => {}
    }
}

async fn connect_first(targets: &[Target]) -> Option<(TcpStream, watch::Receiver<bool>)> {
    for target in targets.iter().filter(|target| *target.usable.borrow()) {
        let attempt = TcpStream::connect(target.address);
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_LIMIT, attempt).await {
            return Some((stream, target.usable.clone()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn target(address: SocketAddr, usable: &watch::Sender<bool>) -> Target {
        Target { address, usable: usable.subscribe() }
    }

    /// A listener that greets each caller with its name.
    fn greeter(name: &'static str, tasks: &mut JoinSet<()>) -> SocketAddr {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(name.as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn dead_and_excluded_targets_are_skipped() {
        let mut tasks = JoinSet::new();
        let (up, down) = (watch::Sender::new(true), watch::Sender::new(false));
        let closed = StdListener::bind("127.0.0.1:0").unwrap();
        let dead = closed.local_addr().unwrap();
        drop(closed);
        let frozen = greeter("frozen", &mut tasks);
        let live = greeter("live", &mut tasks);
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let targets = vec![target(dead, &up), target(frozen, &down), target(live, &up)];
        let cancel = CancellationToken::new();
        let forwarder = Forwarder::new(listener, targets);
        let stop = cancel.clone();
        tasks.spawn(async move { forwarder.run(stop).await.unwrap() });
        let mut answer = String::new();
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "live");
        cancel.cancel();
    }

    #[tokio::test]
    async fn an_open_connection_ends_when_its_target_goes_down() {
        let mut tasks = JoinSet::new();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let up = watch::Sender::new(true);
        let forwarder = Forwarder::new(listener, vec![target(silent.local_addr().unwrap(), &up)]);
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tasks.spawn(async move { forwarder.run(stop).await.unwrap() });
        let mut stream = TcpStream::connect(at).await.unwrap();
        let _held = silent.accept().await.unwrap();
        up.send_replace(false);
        let mut nothing = Vec::new();
        let ended = stream.read_to_end(&mut nothing);
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().unwrap();
        cancel.cancel();
    }
}
