//! The program `qa-worker`.

fn main() {}
