//! Random values from the operating system.

use data_encoding::HEXLOWER;

use super::Error;

/// 64 random bits as hexadecimal digits: a unique id, not a secret.
pub fn random_id() -> Result<String, Error> {
    let mut digits = random_secret()?;
    digits.truncate(16);
    Ok(digits)
}

/// 256 random bits as hexadecimal digits.
pub fn random_secret() -> Result<String, Error> {
    let mut bytes = [0; 32];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(HEXLOWER.encode(&bytes))
}
