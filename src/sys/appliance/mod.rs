//! What the first program of a machine without a distribution asks of its kernel.
//!
//! Why by hand: nothing else runs there, no udev, no kmod, no mount.
//! Not here: supervising services once the system is up (`sys/pid1`), deciding anything
//! (`install/live`).

mod blocks;
mod console;
mod hardware;
mod loop_device;
mod modules;
mod root;

pub use blocks::{block_devices, holdfast_label};
pub use console::Console;
pub use hardware::{Disk, Machine, NetworkCard, survey};
pub use loop_device::attach;
pub use modules::{Modules, serve_modprobe};
pub use root::{
    SwitchError, enter_program, mount_kernel_views, mount_read_only, restart, turn_off,
};
