//! What bodies refuse and hide.

use super::*;

#[test]
fn a_misspelt_option_is_an_error() {
    let text = r#"{"bucket":"b","with":"globex","untill":"1d"}"#;
    assert!(serde_json::from_str::<ShareCreate>(text).is_err());
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let c = Credentials {
        access_key_id: "AK".into(),
        secret_access_key: "hush".into(),
        token: "hush".into(),
        expiration: "never".into(),
    };
    assert!(!format!("{c:?}").contains("hush"));
}
