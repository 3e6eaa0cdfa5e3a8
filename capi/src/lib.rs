//! The C library of `starttls`.
