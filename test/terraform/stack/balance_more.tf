# Clients with certificates, users of an identity provider, HTTP/2 and gRPC targets, and a network load balancer with elastic
# addresses, TLS and security groups.

resource "aws_lb_trust_store" "clients" {
  name                             = "${var.name}-clients"
  ca_certificates_bundle_s3_bucket = "${var.name}-certs"
  ca_certificates_bundle_s3_key    = var.ca_bundle
  tags                             = { Name = "${var.name}-clients" }
}

resource "aws_lb_trust_store_revocation" "clients" {
  trust_store_arn       = aws_lb_trust_store.clients.arn
  revocations_s3_bucket = "${var.name}-certs"
  revocations_s3_key    = "clients.crl"
}

resource "aws_lb_listener" "mutual" {
  load_balancer_arn = aws_lb.web.arn
  port              = 9443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
  certificate_arn   = aws_acm_certificate.main.arn

  routing_http_response_strict_transport_security_header_value = "max-age=60"
  routing_http_response_server_enabled                         = false
  routing_http_request_x_amzn_mtls_clientcert_leaf_header_name = "X-Client-Leaf"

  mutual_authentication {
    mode                             = "verify"
    trust_store_arn                  = aws_lb_trust_store.clients.arn
    ignore_client_certificate_expiry = var.ignore_expiry
    advertise_trust_store_ca_names   = "on"
  }
  default_action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "known client"
      status_code  = "200"
    }
  }
}

resource "aws_lb_listener_rule" "users" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 30
  action {
    type  = "authenticate-oidc"
    order = 1
    authenticate_oidc {
      issuer                     = "https://idp.company.test"
      authorization_endpoint     = "https://idp.company.test/authorize"
      token_endpoint             = "https://idp.company.test/token"
      user_info_endpoint         = "https://idp.company.test/userinfo"
      client_id                  = "web"
      client_secret              = "secret"
      on_unauthenticated_request = var.on_unauthenticated
      session_timeout            = 3600
      authentication_request_extra_params = {
        prompt = "login"
      }
    }
  }
  action {
    type             = "forward"
    order            = 2
    target_group_arn = aws_lb_target_group.web.arn
  }
  condition {
    path_pattern { values = ["/users/*"] }
  }
}

resource "aws_lb_target_group" "h2" {
  name             = "${var.name}-h2"
  port             = 8443
  protocol         = "HTTPS"
  protocol_version = "HTTP2"
  vpc_id           = aws_vpc.main.id

  load_balancing_algorithm_type = "least_outstanding_requests"
  target_group_health {
    dns_failover {
      minimum_healthy_targets_count      = "2"
      minimum_healthy_targets_percentage = "off"
    }
    unhealthy_state_routing {
      minimum_healthy_targets_count      = 1
      minimum_healthy_targets_percentage = "off"
    }
  }
}

resource "aws_lb_target_group" "grpc" {
  name             = "${var.name}-grpc"
  port             = 50051
  protocol         = "HTTP"
  protocol_version = "GRPC"
  vpc_id           = aws_vpc.main.id
  health_check {
    path    = "/grpc.health.v1.Health/Check"
    matcher = "0-5"
  }
}

resource "aws_lb_listener_rule" "grpc" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 50
  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.grpc.arn
  }
  condition {
    host_header { values = ["grpc.company.test"] }
  }
}

resource "aws_eip" "edge" {
  count  = 2
  domain = "vpc"
}

resource "aws_lb" "edge" {
  name               = "${var.name}-edge"
  load_balancer_type = "network"
  security_groups    = [aws_security_group.lb.id]

  dns_record_client_routing_policy                             = "availability_zone_affinity"
  enforce_security_group_inbound_rules_on_private_link_traffic = "off"
  dynamic "subnet_mapping" {
    for_each = range(2)
    content {
      subnet_id     = aws_subnet.public[subnet_mapping.value].id
      allocation_id = aws_eip.edge[subnet_mapping.value].id
    }
  }
}

resource "aws_lb_target_group" "edge" {
  name                   = "${var.name}-edge"
  port                   = 80
  protocol               = "TCP"
  vpc_id                 = aws_vpc.main.id
  proxy_protocol_v2      = false
  preserve_client_ip     = false
  connection_termination = true
  target_health_state {
    enable_unhealthy_connection_termination = false
    unhealthy_draining_interval             = 60
  }
  stickiness {
    type    = "source_ip"
    enabled = true
  }
}

resource "aws_lb_listener" "edge" {
  load_balancer_arn = aws_lb.edge.arn
  port              = 443
  protocol          = "TLS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate.main.arn
  alpn_policy       = "HTTP2Optional"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.edge.arn
  }
}

resource "aws_lb_listener" "edge_tcp" {
  load_balancer_arn        = aws_lb.edge.arn
  port                     = 80
  protocol                 = "TCP"
  tcp_idle_timeout_seconds = var.tcp_idle
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.edge.arn
  }
}
