//! Kubernetes-shaped objects over the replicated store.
