//! The program `qa-coordinator`.

fn main() {}
