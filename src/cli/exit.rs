//! Exit codes: what scripts rely on.

use std::process::ExitCode;

/// How a verb ended. Source: `sysexits.h` for 64, 69 and 75.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, all well.
    Done,
    /// 1: tried and failed.
    Failed,
    /// 2: works, but wants attention (degraded).
    Attention,
    /// 64: wrong usage or configuration.
    Usage,
    /// 69: nobody could be reached.
    Unreachable,
    /// 75: not now; the same command may be tried again.
    TryAgain,
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Attention => 2,
            Exit::Usage => 64,
            Exit::Unreachable => 69,
            Exit::TryAgain => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
