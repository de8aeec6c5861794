//! A configuration for nginx: exact hosts only, all other requests get 404. Include it in the `http` block.

use std::net::{IpAddr, SocketAddr};

use super::{Route, authority, ports};

/// One `map` from host to target for each port, and a `server` for each, listening at an address of the router.
pub fn config(routes: &[Route], listen: IpAddr) -> String {
    let mut text =
        String::from("# Written by `sparkha route render --format nginx`. Include it in nginx's http block.\n");
    if !routes.is_empty() {
        // The default only fits names of 64 bytes.
        text.push_str("map_hash_bucket_size 256;\nserver_names_hash_bucket_size 256;\n");
    }
    for port in ports(routes) {
        text.push_str(&format!("map $host $sparkha_{port} {{\n    default \"\";\n"));
        for route in routes.iter().filter(|route| route.port == port) {
            text.push_str(&format!("    {} {};\n", route.host, authority(route)));
        }
        text.push_str(&format!(
            "}}\nserver {{\n    listen {};\n    server_name _;\n    location / {{\n        \
             if ($sparkha_{port} = \"\") {{ return 404; }}\n        proxy_pass http://$sparkha_{port};\n        \
             proxy_set_header Host $http_host;\n        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n        \
             proxy_set_header X-Forwarded-Proto $scheme;\n        proxy_connect_timeout 2s;\n    }}\n}}\n",
            SocketAddr::new(listen, port)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn a_map_and_a_server_for_each_port() {
        assert_eq!(
            config(&table()[2..3], [0, 0, 0, 0].into()),
            r#"# Written by `sparkha route render --format nginx`. Include it in nginx's http block.
map_hash_bucket_size 256;
server_names_hash_bucket_size 256;
map $host $sparkha_8081 {
    default "";
    spark-fd00--5.ns.k8s [fd00::5]:8081;
}
server {
    listen 0.0.0.0:8081;
    server_name _;
    location / {
        if ($sparkha_8081 = "") { return 404; }
        proxy_pass http://$sparkha_8081;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_connect_timeout 2s;
    }
}
"#
        );
    }
}
