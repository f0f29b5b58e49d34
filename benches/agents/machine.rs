//! A simulated machine: it joins, registers, and keeps Lease, status, watches and tunnel as `orch agent` does, by the agent's own code, with keys
//! and connections of its own. It runs nothing.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use orch::agent::edge::ImageStore;
use orch::agent::join::{self, Entry, JoinConfig};
use orch::agent::node::{self, Machine, Own};
use orch::agent::tunnel::{self, Reach};
use orch::agent::{AgentConfig, http};
use orch::api::join_token::JoinToken;
use orch::client::Client;
use orch::runtime::image::{Credentials, Image, ImageError};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::follow::{Set, follow};
use crate::support::Failure;

/// The sets that an agent watches, beside the pods of its node: for the ways to other nodes, and for Services in rules, names and environments.
pub const WATCHED: &[&str] = &["/api/v1/nodes", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"];
/// Addresses of machines follow this one.
const FIRST: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 0);

/// What all machines are told.
pub struct Place {
    /// The API.
    pub url: ::http::Uri,
    /// What lets them in.
    pub token: JoinToken,
    /// Their directories are below it.
    pub dir: PathBuf,
    /// What each of them is.
    pub machine: Machine,
}

/// What a machine tells.
pub enum News {
    /// It is complete: everything that an agent keeps is begun.
    Complete {
        /// The API, as this machine.
        client: Client,
        /// What its Lease is renewed with.
        config: Arc<AgentConfig>,
        /// Since it began.
        took: Duration,
    },
    /// It heard of a pod for the first time.
    Pod {
        /// Its name.
        name: String,
        /// When.
        at: Instant,
    },
    /// It came to an end, which none should.
    Ended(String, Failure),
}

/// No images, as on a machine that has run nothing yet.
struct NoImages;

impl ImageStore for NoImages {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    fn pull<'a>(&'a self, _: &'a str, _: &'a [Credentials]) -> BoxFuture<'a, Result<Image, ImageError>> {
        Box::pin(std::future::pending())
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// The name of a machine.
pub fn name(number: u32) -> String {
    format!("machine-{number}")
}

/// Is one, for ever. The permit is for joining.
pub async fn run(number: u32, place: Arc<Place>, permit: OwnedSemaphorePermit, tell: mpsc::UnboundedSender<News>) {
    let ended = match live(number, &place, permit, &tell).await {
        Ok(mut tasks) => match tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            _ => "a part of it ended".into(),
        },
        Err(error) => error,
    };
    // Nobody listens any more once all has been measured.
    tell.send(News::Ended(name(number), ended)).ok();
}

/// Follows `node::start` of the executable, and `agent::start`.
async fn live(
    number: u32,
    place: &Place,
    permit: OwnedSemaphorePermit,
    tell: &mpsc::UnboundedSender<News>,
) -> Result<JoinSet<Result<(), Failure>>, Failure> {
    let begun = Instant::now();
    let node_ip = Ipv4Addr::from_bits(FIRST.to_bits() + number + 1).into();
    let data_dir = place.dir.join(name(number));
    std::fs::create_dir_all(&data_dir)?;
    let entry = Entry::Token(Some(place.token.clone()));
    let member = join::join(&JoinConfig { url: place.url.clone(), node_name: name(number), data_dir: data_dir.clone(), entry }).await?;
    let client = member.client.clone();
    let config = AgentConfig::of(&member, &name(number), node_ip, &data_dir);
    let images: Arc<dyn ImageStore> = Arc::new(NoImages);
    let registered = node::register(&client, &config, &place.machine, &*images).await?;
    let pods: Ipv4Net = node::pod_cidr(&client, &config, registered).await?;
    let config = Arc::new(AgentConfig { pod_cidr: Some(pods), ..config });
    let mut tasks: JoinSet<Result<(), Failure>> = JoinSet::new();
    for path in WATCHED {
        let following = follow(client.clone(), Set { path, fields: String::new() }, |_| {});
        tasks.spawn(async move { following.await.map(drop) });
    }
    let (own, mut heard) = (Set { path: "/api/v1/pods", fields: format!("spec.nodeName%3D{}", name(number)) }, Heard::new(tell.clone()));
    let following = follow(client.clone(), own, move |line| heard.line(line));
    tasks.spawn(async move { following.await.map(drop) });
    let heartbeat = node::heartbeat(client.clone(), config.clone());
    tasks.spawn(async move { Ok(heartbeat.await?) });
    // What the API has of this node is not told: nobody contradicts it here.
    let (own, known) = watch::channel(Own::Unknown);
    let status = node::keep_status(client.clone(), config.clone(), images, known);
    tasks.spawn(async move {
        let _own = own;
        Ok(status.await?)
    });
    member.serve_at(&[node_ip]).await?;
    let stop = CancellationToken::new();
    let tunnel = member.tunnel(Reach { node_ip, kubelet_port: http::PORT, pods })?;
    let tunnel = tunnel::keep(tunnel, stop.clone());
    tasks.spawn(async move {
        tunnel.await;
        Ok(())
    });
    tasks.spawn(async move {
        member.keep_fresh(stop).await;
        Ok(())
    });
    drop(permit);
    tell.send(News::Complete { client, config, took: begun.elapsed() }).ok();
    Ok(tasks)
}

/// Tells of each pod once.
struct Heard {
    tell: mpsc::UnboundedSender<News>,
    known: std::collections::HashSet<String>,
}

impl Heard {
    fn new(tell: mpsc::UnboundedSender<News>) -> Heard {
        Heard { tell, known: Default::default() }
    }

    fn line(&mut self, line: &[u8]) {
        #[derive(Deserialize)]
        struct Event {
            object: Object,
        }
        #[derive(Deserialize)]
        struct Object {
            metadata: Meta,
        }
        #[derive(Deserialize)]
        struct Meta {
            name: Option<String>,
        }
        let at = Instant::now();
        // A bookmark has no name.
        let Ok(Event { object: Object { metadata: Meta { name: Some(name) } } }) = serde_json::from_slice(line) else { return };
        if self.known.insert(name.clone()) {
            self.tell.send(News::Pod { name, at }).ok();
        }
    }
}
