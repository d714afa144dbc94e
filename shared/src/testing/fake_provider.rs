//! Fakes of the hosted services.
