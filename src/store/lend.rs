//! Gives a member whose state is damaged a copy of this one's, page by page.
//!
//! Why pages that are asked for: the other one asks before it takes part in Raft, so no
//! leader knows that it needs anything; and any member that serves can help, also while
//! there is no majority.
//! Invariant: a copy that nobody goes on fetching ends, so that its view holds no pages of
//! the file. Not here: the copy itself (`loan`).

use std::sync::Arc;
use std::time::Duration;

use super::disk::run_on;
use super::loan::Loan;
use super::message::Answer;
use super::shared::Shared;
use super::state::rows_after;
use crate::base::chain::chain;

/// Rows of one page, bytes.
const PAGE_BYTES: usize = 1024 * 1024;
/// How long a session may be silent.
const IDLE: Duration = Duration::from_secs(60);

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
        let (view, from) = (loan.view.clone(), loan.turn_to(number)?);
        let rows = run_on(&*self.disk, move || rows_after(&view, from.as_ref(), PAGE_BYTES)).await;
        let rows = rows.map_err(|error| chain(&error))?;
        let rows = rows.map_err(|error| self.state_failed(&error).to_string())?;
        loan.turned(&rows);
        Ok(Answer::StateRows { applied: loan.applied, rows })
    }

    async fn begin_loan(&self, session: u64) -> Result<Loan, String> {
        let flushed = self.state.flush().await;
        flushed.map_err(|error| self.state_failed(&error).to_string())?;
        let view = self.state.view();
        let marks = view.image_marks().map_err(|error| self.state_failed(&error).to_string())?;
        let applied = marks.applied.ok_or("it has applied nothing yet")?;
        Ok(Loan::new(session, view, applied))
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
                Some(loan) if loan.session == session && !loan.is_idle(IDLE) => {}
                Some(loan) if loan.session == session => {
                    *slot = None;
                    return;
                }
                _ => return,
            }
        }
    }
}
