//! Certificates signed by a test CA.

use std::path::Path;
use std::process::Command;

/// Runs openssl in this folder.
pub fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes ca.crt, tls.crt and tls.key, as in a Secret of cert-manager.
pub fn secret(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        folder,
        &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=ca -days 2"),
    );
    openssl(
        folder,
        &format!("req {key} -keyout tls.key -out tls.csr -subj /CN=spark"),
    );
    openssl(
        folder,
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out tls.crt",
    );
}
