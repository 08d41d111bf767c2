//! Pod network, Service balancing and cluster DNS on one node.
