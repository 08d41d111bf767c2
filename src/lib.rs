//! Holdfast: one binary that installs, is and rescues a container cloud on bare hosts.
//!
//! The map. A module imports only from strictly lower floors; modules on one floor do
//! not know each other. `tests/tidy` enforces this and proves that it can fail.
//!
//! | floor | module | holds |
//! |---|---|---|
//! | 8 | [`cli`] | one file per verb: prints, progress bars, exit codes; no logic |
//! | 7 | [`app`] | `wire` builds everything from config, `supervise` alone starts and stops tasks |
//! |   | [`lab`] | several hosts on one machine: namespaces, engines, links, faults |
//! | 6 | [`api`] | listeners, one folder per protocol: `kube/` `etcd/` `oci/` `peer/` `admin/` |
//! |   | `web/` | the admin page's TypeScript source; its build is embedded by `api/admin` |
//! | 5 | [`controllers`] | one file per controller, all level-triggered on store contents |
//! |   | [`agent`] | pods to containers, probes, volumes, logs, node status |
//! |   | [`network`] | pod network, service balancing, policies, ingress, DNS |
//! |   | [`install`] | preflight, init, join, reset |
//! | 4 | [`objects`] | API objects over the store: validation, patch, selection, watch |
//! |   | [`registry`] | OCI content, replication between nodes, collection |
//! |   | [`client`] | typed client of our own API and its informers |
//! | 3 | [`store`] | Raft, log, state machine, watch, snapshot |
//! |   | [`bundle`] | build, sign, verify, open; image building |
//! |   | [`engine`] | container engine port; Docker adapter by bollard |
//! |   | [`playbook`] | journalled task runner and its modules |
//! |   | [`pki`] | authority, certificates, join tokens |
//! | 2 | [`logic`] | pure decisions without I/O: mvcc, schedule, rollout, selectors |
//! |   | [`sys`] | the only code that touches the OS: files, processes, clock, TLS, netlink, host facts |
//! | 1 | [`model`] | pure data: cluster file, manifests, object kinds, versioned encodings |
//! | 0 | [`base`] | no I/O, knows nothing of Holdfast: ids, limits, error chains |
//!
//! Where a lower floor needs a higher one's service it declares a trait on its own
//! floor and [`app`] passes the implementation in.

pub mod agent;
pub mod api;
pub mod app;
pub mod base;
pub mod bundle;
pub mod cli;
pub mod client;
pub mod controllers;
pub mod engine;
pub mod install;
pub mod lab;
pub mod logic;
pub mod model;
pub mod network;
pub mod objects;
pub mod pki;
pub mod playbook;
pub mod registry;
pub mod store;
pub mod sys;
