//! Checkpoints in whole jobs: failures anywhere, restarts, other processes, other parallelism; what comes out is what an
//! uninterrupted run gives, once.

mod catch_up;
mod copies;
mod faults;
mod files;
mod finished;
mod ledger;
mod listeners;
mod processes;
mod restarts;
