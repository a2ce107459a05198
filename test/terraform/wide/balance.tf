# --- load balancers: the attributes that stack/ leaves out, every condition in one rule, targets of each kind

resource "aws_acm_certificate" "all" {
  count            = length(var.certificates)
  certificate_body = var.certificates[count.index].body
  private_key      = var.certificates[count.index].key
  lifecycle { create_before_destroy = true }
}

resource "aws_lb" "inner" {
  name_prefix                                 = "wide-"
  internal                                    = true
  security_groups                             = [aws_security_group.lb.id]
  subnets                                     = [for s in aws_subnet.private : s.id]
  enable_http2                                = var.level == 1
  enable_xff_client_port                      = true
  enable_tls_version_and_cipher_suite_headers = true
  enable_waf_fail_open                        = true
  desync_mitigation_mode                      = "monitor"
  idle_timeout                                = 60 + var.level
  access_logs {
    bucket  = "wide-logs"
    enabled = var.level == 1
  }
}

resource "aws_lb" "outer" {
  name               = "wide-outer"
  load_balancer_type = "application"
  security_groups    = [aws_security_group.lb.id, aws_security_group.web.id]
  subnets            = [for k, s in aws_subnet.public : s.id if var.level != 1 || k != "c"]
}

resource "aws_lb" "net" {
  name                             = "wide-net"
  load_balancer_type               = "network"
  internal                         = true
  enable_cross_zone_load_balancing = var.level == 1
  subnet_mapping {
    subnet_id            = aws_subnet.private["a"].id
    private_ipv4_address = "10.70.10.50"
  }
  access_logs {
    bucket  = "wide-logs"
    prefix  = "net"
    enabled = true
  }
}

resource "aws_lb_target_group" "app" {
  name_prefix                       = "app-"
  port                              = 8080
  protocol                          = "HTTP"
  vpc_id                            = aws_vpc.main.id
  load_balancing_algorithm_type     = "round_robin"
  load_balancing_cross_zone_enabled = "use_load_balancer_configuration"
  health_check {
    enabled             = true
    port                = "9000"
    path                = "/ready?deep=${var.level}"
    protocol            = "HTTP"
    matcher             = "200,204"
    interval            = 30
    timeout             = 5
    healthy_threshold   = 3
    unhealthy_threshold = 3
  }
  stickiness {
    type            = "app_cookie"
    cookie_name     = "session"
    cookie_duration = 600
    enabled         = var.level == 1
  }
  lifecycle { create_before_destroy = true }
}

resource "aws_lb_target_group" "addresses" {
  name                              = "wide-addresses"
  port                              = 443
  protocol                          = "HTTPS"
  target_type                       = "ip"
  vpc_id                            = aws_vpc.main.id
  load_balancing_cross_zone_enabled = false
}

resource "aws_lb_target_group" "random" {
  name                              = "wide-random"
  port                              = 80
  protocol                          = "HTTP"
  vpc_id                            = aws_vpc.main.id
  load_balancing_algorithm_type     = "weighted_random"
  load_balancing_anomaly_mitigation = var.level == 1 ? "on" : "off"
}

resource "aws_lb_target_group" "udp" {
  name     = "wide-udp"
  port     = 53
  protocol = "TCP_UDP"
  vpc_id   = aws_vpc.main.id
  health_check {
    protocol = "HTTP"
    port     = 80
    path     = "/"
    matcher  = "200-399"
  }
}

resource "aws_lb_target_group" "alb" {
  name        = "wide-alb"
  port        = 80
  protocol    = "TCP"
  target_type = "alb"
  vpc_id      = aws_vpc.main.id
  health_check {
    protocol = "HTTP"
    matcher  = "200-499"
  }
}

resource "aws_lb_target_group_attachment" "alb" {
  target_group_arn = aws_lb_target_group.alb.arn
  target_id        = aws_lb.inner.arn
  port             = 80
  depends_on       = [aws_lb_listener.inner]
}

resource "aws_lb_target_group_attachment" "addresses" {
  for_each         = toset(["10.70.0.10", "10.70.10.20"])
  target_group_arn = aws_lb_target_group.addresses.arn
  target_id        = each.key
  port             = 8443
}

resource "aws_lb_target_group_attachment" "outside" {
  target_group_arn  = aws_lb_target_group.addresses.arn
  target_id         = "10.200.0.1"
  availability_zone = "all"
}

resource "aws_lb_target_group_attachment" "instance" {
  target_group_arn = aws_lb_target_group.app.arn
  target_id        = aws_instance.one.id
}

resource "aws_lb_listener" "inner" {
  load_balancer_arn = aws_lb.inner.arn
  port              = 80
  default_action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.app.arn
        weight = 100 - var.level
      }
      target_group {
        arn    = aws_lb_target_group.addresses.arn
        weight = var.level
      }
      stickiness {
        enabled  = false
        duration = 3600
      }
    }
  }
}

resource "aws_lb_listener" "secure" {
  load_balancer_arn = aws_lb.outer.arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = aws_acm_certificate.all[0].arn
  ssl_policy        = var.level == 1 ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : "ELBSecurityPolicy-TLS13-1-3-2021-06"
  default_action {
    type  = "authenticate-oidc"
    order = 1
    authenticate_oidc {
      issuer                 = "https://idp.test"
      authorization_endpoint = "https://idp.test/a"
      token_endpoint         = "https://idp.test/t"
      user_info_endpoint     = "https://idp.test/u"
      client_id              = "c"
      client_secret          = "s"
      scope                  = "openid email"
      session_cookie_name    = "Login"
    }
  }
  default_action {
    type             = "forward"
    order            = 2
    target_group_arn = aws_lb_target_group.random.arn
  }
  mutual_authentication { mode = "passthrough" }
  routing_http_response_access_control_allow_origin_header_value  = "https://a.test"
  routing_http_response_content_security_policy_header_value      = "default-src 'self'"
  routing_http_response_x_content_type_options_header_value       = "nosniff"
  routing_http_response_x_frame_options_header_value              = "DENY"
  routing_http_request_x_amzn_mtls_clientcert_subject_header_name = "X-Client-Subject"
  routing_http_response_access_control_allow_methods_header_value = "GET,POST"
  routing_http_request_x_amzn_tls_version_header_name             = "X-Tls-Version"
}

resource "aws_lb_listener_certificate" "more" {
  count           = length(var.certificates) - 1
  listener_arn    = aws_lb_listener.secure.arn
  certificate_arn = aws_acm_certificate.all[count.index + 1].arn
}

resource "aws_lb_listener_rule" "every" {
  listener_arn = aws_lb_listener.secure.arn
  priority     = 10 * var.level
  condition {
    host_header { values = ["a.test"] }
  }
  condition {
    path_pattern { values = ["/p"] }
  }
  condition {
    http_header {
      http_header_name = "X-Kind"
      values           = ["blue"]
    }
  }
  condition {
    http_request_method { values = ["POST"] }
  }
  condition {
    query_string {
      value = "v${var.level}"
    }
  }
  action {
    type = "redirect"
    redirect {
      host        = "#{host}"
      path        = "/#{path}"
      port        = "8443"
      protocol    = "HTTPS"
      query       = "q=#{query}"
      status_code = "HTTP_302"
    }
  }
}

resource "aws_lb_listener_rule" "source" {
  listener_arn = aws_lb_listener.secure.arn
  condition {
    source_ip { values = ["10.0.0.0/8", "192.0.2.7/32"] }
  }
  condition {
    query_string {
      key   = "debug"
      value = "1"
    }
    query_string {
      key   = "trace"
      value = "*"
    }
  }
  action {
    type = "fixed-response"
    fixed_response {
      content_type = "application/json"
      status_code  = "503"
    }
  }
}

resource "aws_lb_listener" "net" {
  load_balancer_arn = aws_lb.net.arn
  port              = 80
  protocol          = "TCP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.alb.arn
  }
}

resource "aws_lb_listener" "dns" {
  load_balancer_arn = aws_lb.net.arn
  port              = 53
  protocol          = "TCP_UDP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.udp.arn
  }
}
