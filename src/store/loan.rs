//! A copy of this member's state that another one is fetching, page by page.
//!
//! Invariants: all pages are of one moment; a page that is asked for again is the same.
//! Not here: who may have one and when it ends (`lend`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::{DiskView, Row};
use super::types::LogId;

/// One copy on its way.
#[derive(Debug)]
pub(super) struct Loan {
    pub(super) session: u64,
    pub(super) view: Arc<DiskView>,
    pub(super) applied: LogId,
    /// The number of the last page, and the rows that it and the next one begin behind.
    number: u64,
    before: Option<Row>,
    after: Option<Row>,
    used: Instant,
}

impl Loan {
    pub(super) fn new(session: u64, view: Arc<DiskView>, applied: LogId) -> Self {
        let used = Instant::now();
        Self { session, view, applied, number: 0, before: None, after: None, used }
    }

    /// The row that a page begins behind; only the last page and the next one can be had.
    pub(super) fn turn_to(&mut self, number: u64) -> Result<Option<Row>, String> {
        if number == self.number + 1 {
            self.before = self.after.take();
            self.number = number;
        } else if number != self.number {
            return Err(format!("page {number} comes out of order"));
        }
        Ok(self.before.clone())
    }

    /// Notes what the page held.
    pub(super) fn turned(&mut self, rows: &[Row]) {
        self.after = rows.last().cloned().or_else(|| self.before.clone());
        self.used = Instant::now();
    }

    pub(super) fn is_idle(&self, since: Duration) -> bool {
        self.used.elapsed() >= since
    }
}
