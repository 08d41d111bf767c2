//! Members at their places: started, crashed, frozen, asked.
//!
//! A place is a computer with a disk and an address; which member lives there is the
//! scenario's business. Not here: who breaks what (`demon`), who asks what (`clients`).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use holdfast::base::ids::{ClusterId, Generation, MemberId};
use holdfast::store::{
    GenerationTrust, Store, StoreConfig, StoreDeps, StoreError, StoreStatus, StoreTuning,
};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::disk::Disk;
use crate::history::History;
use crate::net::{Life, Net};
use crate::plant::Plant;
use crate::profile::Profile;
use crate::trace;
use crate::world::Hosts;

/// How long a client waits for an answer before it calls the outcome unknown.
const CLIENT_PATIENCE: Duration = Duration::from_secs(20);
/// How long a start may take before its computer is given up.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Who lives at a place.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) member: MemberId,
    pub(crate) generation: Generation,
    pub(crate) disk: Disk,
    /// Whether it should run; one that was removed is never started again.
    pub(crate) present: bool,
    /// Whose signature it trusts and the record of its generation, if it was told.
    pub(crate) trust: Option<Arc<dyn GenerationTrust>>,
    pub(crate) record: Option<holdfast::model::recovery::SignedGeneration>,
}

/// What one run did, so that a run in which nothing happened is noticed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) crashes: usize,
    pub(crate) freezes: usize,
    /// Membership changes that were reported done.
    pub(crate) changes: usize,
    pub(crate) transfers: usize,
    pub(crate) defragmentations: usize,
    pub(crate) denied: usize,
    pub(crate) permitted: usize,
    pub(crate) keepalives: usize,
    pub(crate) full_disks: usize,
    /// Looks at which the remote center could prove that nothing can be lost.
    pub(crate) proofs: usize,
    /// Times that all power went while it could, and its disks gave everything back.
    pub(crate) recoveries: usize,
    /// Whether the city ever went on without it.
    pub(crate) fallen_back: bool,
}

#[derive(Clone)]
pub(crate) struct Sim {
    pub(crate) seed: u64,
    pub(crate) plant: Plant,
    pub(crate) profile: Profile,
    pub(crate) net: Net,
    pub(crate) hosts: Hosts,
    pub(crate) world: Handle,
    pub(crate) stop: CancellationToken,
    pub(crate) clients: TaskTracker,
    tenants: Arc<Mutex<BTreeMap<u64, Tenant>>>,
    history: Arc<Mutex<History>>,
    counts: Arc<Mutex<Counts>>,
    starting: Arc<tokio::sync::Mutex<()>>,
}

impl Sim {
    pub(crate) fn new(
        seed: u64,
        plant: Plant,
        profile: Profile,
        hosts: Hosts,
        world: Handle,
    ) -> Self {
        let places = 1..=profile.members + profile.joiners;
        let tenants = places.map(|place| {
            let tenant = Tenant {
                member: MemberId(place),
                generation: Generation(1),
                disk: Disk::new(seed, place, plant),
                present: place <= profile.members,
                trust: None,
                record: None,
            };
            (place, tenant)
        });
        Self {
            seed,
            plant,
            net: Net::new(seed, world.clone()),
            hosts,
            world,
            stop: CancellationToken::new(),
            clients: TaskTracker::new(),
            tenants: Arc::new(Mutex::new(tenants.collect())),
            history: Arc::default(),
            counts: Arc::default(),
            starting: Arc::default(),
            profile,
        }
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap()
    }

    pub(crate) fn tenants(&self) -> MutexGuard<'_, BTreeMap<u64, Tenant>> {
        self.tenants.lock().unwrap()
    }

    pub(crate) fn disk(&self, place: u64) -> Disk {
        self.tenants()[&place].disk.clone()
    }

    /// Places whose members should run.
    pub(crate) fn places(&self) -> Vec<u64> {
        let tenants = self.tenants();
        tenants.iter().filter(|(_, tenant)| tenant.present).map(|(place, _)| *place).collect()
    }

    pub(crate) fn all_places(&self) -> Vec<u64> {
        self.tenants().keys().copied().collect()
    }

    pub(crate) fn set_present(&self, place: u64, present: bool) {
        self.tenants().get_mut(&place).unwrap().present = present;
    }

    /// Runs something on the member's computer, as a request of a client does; nothing if
    /// it is down, crashes meanwhile or does not answer in time.
    pub(crate) async fn ask<T, F>(&self, place: u64, of: impl FnOnce(Arc<Store>) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let life = self.net.life(place)?;
        let job = life.handle.spawn(of(life.store.clone()));
        drop(life);
        timeout(CLIENT_PATIENCE, job).await.ok()?.ok()
    }

    pub(crate) async fn start_all(&self) -> Result<(), String> {
        for place in self.places() {
            self.start(place).await?;
        }
        Ok(())
    }

    /// Starts the member of a place unless it runs and is well.
    pub(crate) async fn start(&self, place: u64) -> Result<(), String> {
        // One at a time: two lives of one disk would be a fault of the harness.
        let _starting = self.starting.lock().await;
        if self.net.is_well(place) {
            return Ok(());
        }
        self.crash(place);
        let tenant = self.tenants()[&place].clone();
        let disk = tenant.disk.start();
        let (host, handle) = self.hosts.start();
        trace::say("start", place, &tenant.member);
        let config = StoreConfig {
            cluster_id: ClusterId(uuid::Uuid::from_u128(7)),
            generation: tenant.generation,
            member_id: tenant.member,
            tuning: StoreTuning { snapshot_every: 60, keep_entries: 20, segment_bytes: 8192 },
        };
        let deps = StoreDeps { network: self.net.port(place), disk: Arc::new(disk.clone()) };
        let (trust, record) = (tenant.trust.clone(), tenant.record.clone());
        let opened = handle.spawn(async move {
            let store = Arc::new(Store::open(config, deps).await?);
            if let Some(trust) = trust {
                store.know_generations(trust, record);
            }
            Ok::<_, holdfast::store::OpenError>(store)
        });
        let opened = match timeout(START_PATIENCE, opened).await {
            Ok(Ok(opened)) => opened,
            // Somebody killed the computer, or its member waits for the others.
            Ok(Err(_)) | Err(_) => {
                self.hosts.kill(host);
                tenant.disk.lose_power(&disk);
                return Ok(());
            }
        };
        match opened {
            // It may have been removed for good meanwhile.
            Ok(store) if self.tenants()[&place].present => {
                self.net.plug(place, Life { store, disk, host, handle });
                Ok(())
            }
            Ok(_) => {
                self.hosts.kill(host);
                Ok(())
            }
            // The disk died or filled up while it was opened; the host tries again later.
            Err(error) => {
                self.hosts.kill(host);
                let excused = disk.is_dead() || tenant.disk.is_to_blame();
                tenant.disk.lose_power(&disk);
                if excused {
                    return Ok(());
                }
                Err(format!("the member at {place} does not open: {error:?}"))
            }
        }
    }

    /// Cuts the power of a place.
    pub(crate) fn crash(&self, place: u64) {
        if let Some(life) = self.net.unplug(place) {
            trace::note("crash", place, &[]);
            self.disk(place).lose_power(&life.disk);
            self.hosts.kill(life.host);
            self.counts().crashes += 1;
        }
    }

    /// Notices computers whose power went in the middle of a disk operation.
    pub(crate) fn notice_deaths(&self) {
        for place in self.all_places() {
            if self.net.life(place).is_some_and(|life| life.disk.is_dead()) {
                self.crash(place);
            }
        }
    }

    pub(crate) fn freeze(&self, place: u64, frozen: bool) {
        if let Some(life) = self.net.life(place) {
            trace::note(if frozen { "freeze" } else { "thaw" }, place, &[]);
            self.hosts.freeze(life.host, frozen);
            if frozen {
                self.counts().freezes += 1;
            }
        }
    }

    /// Makes one group of the first members.
    pub(crate) async fn form(&self) -> Result<(), String> {
        self.start_all().await?;
        let first = |store: Arc<Store>| async move { store.initialize_single("n1", "1").await };
        done(self.ask(1, first).await)?;
        self.net.set_loss(0.0);
        for place in 2..=self.profile.members {
            let add = move |store: Arc<Store>| async move {
                let (name, address) = (format!("n{place}"), place.to_string());
                store.add_member(MemberId(place), &name, &address, true).await
            };
            done(self.ask(1, add).await)?;
        }
        self.net.heal();
        Ok(())
    }

    pub(crate) fn statuses(&self) -> Vec<(u64, StoreStatus)> {
        let lives =
            self.places().into_iter().filter_map(|place| Some((place, self.net.life(place)?)));
        lives.map(|(place, life)| (place, life.store.status())).collect()
    }

    /// The place of the member that leads, if one that runs says so of itself.
    pub(crate) fn leader(&self) -> Option<u64> {
        let statuses = self.statuses().into_iter();
        let leading = statuses.filter(|(_, status)| status.leader == Some(status.member));
        leading.max_by_key(|(_, status)| status.term).map(|(place, _)| place)
    }

    /// Everything that was done to computers and network ends.
    pub(crate) fn mend(&self) {
        self.hosts.thaw_all();
        self.net.heal();
        for tenant in self.tenants().values() {
            tenant.disk.mend();
        }
    }
}

fn done(answer: Option<Result<(), StoreError>>) -> Result<(), String> {
    match answer {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(format!("the group does not form: {error}")),
        None => Err("the group does not form: no answer".into()),
    }
}
