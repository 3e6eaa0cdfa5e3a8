//! What a domain publishes for those who send mail to it.

use std::ffi::{c_char, CString};

use starttls::Survey;

use crate::error::starttls_error;
use crate::handle::{c_string, free, get, give, text, Opaque};
use crate::policy::{starttls_policy, used};

/// What a domain publishes: mail hosts, TLSA records, MTA-STS, TLSRPT. For people who look at a domain, their own
/// or another's.
pub struct starttls_survey {
    _opaque: [u8; 0],
}

impl Opaque for starttls_survey {
    type Inner = CString;
    const NAME: &'static str = "starttls_survey";
    const MARK: u64 = 0x7374_746c_7373_7672;
}

/// Looks everything up within the policy's time-out; of the policy count that, the resolver and the ports. That a
/// look-up fails is a finding, not an error. No mail host is dialled. Free it with `starttls_survey_free`.
#[no_mangle]
pub unsafe extern "C" fn starttls_survey_of(
    domain: *const c_char,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_survey {
    guard!(error, {
        let policy = used(policy)?;
        let survey = Survey::of(text(domain, "domain")?, &policy)?;
        Ok(give(c_string(&survey.to_json())))
    })
}

/// All of it as one line of JSON with stable keys. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_survey_json(survey: *const starttls_survey) -> *const c_char {
    guard!(get(survey).map_or(std::ptr::null(), |json| json.as_ptr()))
}

/// Frees a survey. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_survey_free(survey: *mut starttls_survey) {
    guard!(free(survey))
}
