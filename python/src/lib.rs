//! The Python module of `starttls`.
