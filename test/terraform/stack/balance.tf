resource "aws_acm_certificate" "main" {
  private_key      = var.private_key
  certificate_body = var.certificate
  tags             = { Name = var.name }
}

resource "aws_lb" "web" {
  name                       = "${var.name}-web"
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.lb.id]
  subnets                    = aws_subnet.public[*].id
  idle_timeout               = 45
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "strictest"
  client_keep_alive          = 600
  xff_header_processing_mode = "preserve"
  preserve_host_header       = true
  enable_deletion_protection = var.deletion_protection
  access_logs {
    bucket  = "${var.name}-logs"
    prefix  = "web"
    enabled = true
  }
  connection_logs {
    bucket  = "${var.name}-logs"
    enabled = true
  }
  tags = { Name = "${var.name}-web", Environment = var.environment }
}

resource "aws_lb" "tcp" {
  name                             = "${var.name}-tcp"
  load_balancer_type               = "network"
  internal                         = false
  enable_cross_zone_load_balancing = true
  dynamic "subnet_mapping" {
    for_each = aws_subnet.public[*].id
    content { subnet_id = subnet_mapping.value }
  }
  tags = { Name = "${var.name}-tcp" }
}

resource "aws_lb_target_group" "web" {
  name                 = "${var.name}-web"
  port                 = 80
  protocol             = "HTTP"
  vpc_id               = aws_vpc.main.id
  deregistration_delay = 20
  slow_start           = 30
  health_check {
    path                = var.health_path
    interval            = var.health_interval
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 3
    matcher             = "200-299"
  }
  stickiness {
    type            = "lb_cookie"
    cookie_duration = 3600
    enabled         = true
  }
  tags = { Name = "${var.name}-web" }
}

resource "aws_lb_target_group" "canary" {
  name     = "${var.name}-canary"
  port     = 80
  protocol = "HTTP"
  vpc_id   = aws_vpc.main.id
}

resource "aws_lb_target_group" "tcp" {
  name               = "${var.name}-tcp"
  port               = 80
  protocol           = "TCP"
  vpc_id             = aws_vpc.main.id
  preserve_client_ip = false # so the targets' security group sees the nodes, not the clients
  health_check {
    protocol = "TCP"
    interval = 10
  }
}

resource "aws_lb_target_group" "ip" {
  name        = "${var.name}-ip"
  port        = 8080
  protocol    = "HTTP"
  target_type = "ip"
  vpc_id      = aws_vpc.main.id
}

resource "aws_lb_target_group_attachment" "bastion" {
  target_group_arn = aws_lb_target_group.canary.arn
  target_id        = aws_instance.bastion.id
  port             = 80
}

resource "aws_lb_target_group_attachment" "ip" {
  target_group_arn = aws_lb_target_group.ip.arn
  target_id        = aws_instance.bastion.private_ip
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.web.arn
  port              = 80
  protocol          = "HTTP"
  default_action {
    type = "redirect"
    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.web.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate.main.arn
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
  tags = { Name = "${var.name}-https" }
}

resource "aws_lb_listener" "tcp" {
  load_balancer_arn = aws_lb.tcp.arn
  port              = 8080
  protocol          = "TCP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.tcp.arn
  }
}

resource "aws_lb_listener_rule" "teapot" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10
  action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "short and stout"
      status_code  = "418"
    }
  }
  condition {
    path_pattern { values = ["/teapot", "/teapot/*"] }
  }
  condition {
    http_request_method { values = ["GET", "HEAD"] }
  }
  tags = { Name = "teapot" }
}

resource "aws_lb_listener_rule" "weighted" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 20
  action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.web.arn
        weight = 90
      }
      target_group {
        arn    = aws_lb_target_group.canary.arn
        weight = 10
      }
      stickiness {
        enabled  = true
        duration = 600
      }
    }
  }
  condition {
    host_header { values = ["canary.company.test"] }
  }
  condition {
    query_string {
      key   = "beta"
      value = "*"
    }
  }
}

resource "aws_lb_listener_rule" "blog" {
  listener_arn = aws_lb_listener.https.arn
  action {
    type = "redirect"
    redirect {
      host        = "www.company.test"
      path        = "/blog/#{path}"
      status_code = "HTTP_302"
    }
  }
  condition {
    host_header { values = ["blog.company.test"] }
  }
  condition {
    http_header {
      http_header_name = "X-Forwarded-For"
      values           = ["10.*"]
    }
  }
  condition {
    source_ip { values = ["127.0.0.0/8", "10.0.0.0/8"] }
  }
}
