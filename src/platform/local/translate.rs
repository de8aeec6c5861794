//! Translates paths of a container's file system in texts to paths of this machine: a process on this machine has no mounts.

/// Mount paths and their folders on this machine, the longest mount path first.
#[derive(Clone, Debug, Default)]
pub struct Translation(Vec<(String, String)>);

impl Translation {
    pub fn new(mounts: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut mounts: Vec<_> = mounts.into_iter().collect();
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self(mounts)
    }

    /// The text with every mounted path replaced. Only whole path components match: with `/tmp` mounted, neither `/var/tmp` nor `/tmpfs` does.
    pub fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('/') {
            let (before, from_slash) = rest.split_at(at);
            out.push_str(before);
            let begins = !out.ends_with(is_of_a_name);
            let mount = self.0.iter().find(|(path, _)| {
                let after = from_slash.strip_prefix(path.as_str());
                after.is_some_and(|after| !after.starts_with(is_of_a_name))
            });
            match mount.filter(|_| begins) {
                Some((path, real)) => {
                    out.push_str(real);
                    rest = &from_slash[path.len()..];
                }
                None => {
                    out.push('/');
                    rest = &from_slash[1..];
                }
            }
        }
        out + rest
    }
}

/// Whether a character can be part of a file name. A brace or parenthesis closes `${HOME}` or `$(HOME)` before a path.
fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | ')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translates_whole_mounted_paths_only() {
        let mounts = [
            ("/tmp", "/s/tmp"),
            ("/etc/spark", "/s/conf"),
            ("/var/spark/work", "/s/work"),
            ("/var/spark", "/s/v"),
        ];
        let translation = Translation::new(mounts.map(|(a, b)| (a.to_owned(), b.to_owned())));
        for (text, expected) in [
            ("/tmp", "/s/tmp"),
            ("HOME=/tmp/x:/var/tmp", "HOME=/s/tmp/x:/var/tmp"),
            ("/tmpfs /tmp.d ${X}/tmp $(X)/tmp", "/tmpfs /tmp.d ${X}/tmp $(X)/tmp"),
            (
                "-Dx=file:/etc/spark/log4j2.properties",
                "-Dx=file:/s/conf/log4j2.properties",
            ),
            ("/var/spark/work,/var/spark/worker", "/s/work,/s/v/worker"),
            ("exec 3<>/dev/tcp/1/2", "exec 3<>/dev/tcp/1/2"),
            ("\"/var/spark\"", "\"/s/v\""),
            ("", ""),
        ] {
            assert_eq!(translation.text(text), expected, "{text}");
        }
    }
}
