//! Gives a member whose state is damaged a copy of this one's, page by page.
//!
//! Why pages that are asked for: the other one asks before it takes part in Raft, so no
//! leader knows that it needs anything; and any member that serves can help, also while
//! there is no majority.
//! Invariants: all pages of a session are of one moment; a page that is asked for again is
//! the same; a session that is not used ends, so that its view holds no pages of the file.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::disk::run_on;
use super::message::Answer;
use super::shared::Shared;
use super::state::{DiskView, Row, rows_after};
use super::types::LogId;
use crate::base::chain::chain;

/// Rows of one page, bytes.
const PAGE_BYTES: usize = 1024 * 1024;
/// How long a session may be silent.
const IDLE: Duration = Duration::from_secs(60);

/// One copy on its way.
#[derive(Debug)]
pub(super) struct Loan {
    session: u64,
    view: Arc<DiskView>,
    applied: LogId,
    /// The number of the last page, and the rows that it and the next one begin behind.
    number: u64,
    before: Option<Row>,
    after: Option<Row>,
    used: Instant,
}

impl Shared {
    /// One page of this member's state; an empty one is the last.
    pub(super) async fn lend_state(self: &Arc<Self>, session: u64, number: u64) -> Answer {
        if let Err(error) = self.health.borrow().check() {
            return Answer::Failed { reason: error.to_string() };
        }
        let page = self.state_page(session, number).await;
        page.unwrap_or_else(|reason| Answer::Failed { reason })
    }

    async fn state_page(self: &Arc<Self>, session: u64, number: u64) -> Result<Answer, String> {
        let mut slot = self.loan.lock().await;
        let known = slot.as_ref().is_some_and(|loan| loan.session == session);
        if !known && number == 0 {
            *slot = Some(self.begin_loan(session).await?);
            let shared = self.clone();
            self.tracker.spawn(async move { shared.end_idle_loan(session).await });
        }
        let loan = slot.as_mut().filter(|loan| loan.session == session);
        let loan = loan.ok_or("this copy was given up")?;
        if number == loan.number + 1 {
            loan.before = loan.after.take();
            loan.number = number;
        } else if number != loan.number {
            return Err(format!("page {number} comes out of order"));
        }
        let (view, from) = (loan.view.clone(), loan.before.clone());
        let rows = run_on(&*self.disk, move || rows_after(&view, from.as_ref(), PAGE_BYTES)).await;
        let rows = rows.map_err(|error| chain(&error))?;
        let rows = rows.map_err(|error| self.state_failed(&error).to_string())?;
        loan.after = rows.last().cloned().or_else(|| loan.before.clone());
        loan.used = Instant::now();
        Ok(Answer::StateRows { applied: loan.applied, rows })
    }

    async fn begin_loan(&self, session: u64) -> Result<Loan, String> {
        let flushed = self.state.flush().await;
        flushed.map_err(|error| self.state_failed(&error).to_string())?;
        let view = self.state.view();
        let marks = view.image_marks().map_err(|error| self.state_failed(&error).to_string())?;
        let applied = marks.applied.ok_or("it has applied nothing yet")?;
        let used = Instant::now();
        Ok(Loan { session, view, applied, number: 0, before: None, after: None, used })
    }

    async fn end_idle_loan(&self, session: u64) {
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(IDLE) => {}
            }
            let mut slot = self.loan.lock().await;
            match slot.as_ref() {
                Some(loan) if loan.session == session && loan.used.elapsed() < IDLE => {}
                Some(loan) if loan.session == session => {
                    *slot = None;
                    return;
                }
                _ => return,
            }
        }
    }
}
