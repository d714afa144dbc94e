//! Settings from flags, environment and env files; the only code that reads the environment.
