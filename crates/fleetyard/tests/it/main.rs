//! The one end-to-end test program: the real binary as its users start it, each test with a hub of its own on free ports.
//! A test that cannot fail is a defect; none may wait for a set time where it can wait for an event.

mod cli;
mod crash;
mod crash_bulk;
mod management;
mod retirement;
mod serve;
mod support;
