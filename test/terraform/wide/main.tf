# What configurations hold beyond the reference architecture: the same resources in their other shapes, those that change what
# another one made, and the data sources that look things up. wide.sh applies it to a cloud of simulated instances.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region = "us-east-1"
}

variable "certificates" { type = list(object({ body = string, key = string })) }
variable "level" { default = 1 }

data "aws_ami" "nano" {
  owners      = ["amazon"]
  most_recent = true
  filter {
    name   = "name"
    values = ["skerry-nano-*"]
  }
}

# --- network: two tiers, tables by association, options, rules of every shape

resource "aws_vpc" "main" {
  cidr_block           = "10.70.0.0/16"
  enable_dns_hostnames = true
  instance_tenancy     = "default"
  tags                 = { Name = "wide" }
}

resource "aws_internet_gateway" "main" {}

resource "aws_internet_gateway_attachment" "main" {
  internet_gateway_id = aws_internet_gateway.main.id
  vpc_id              = aws_vpc.main.id
}

resource "aws_subnet" "public" {
  for_each                            = { a = 0, b = 1, c = 2 }
  vpc_id                              = aws_vpc.main.id
  cidr_block                          = cidrsubnet(aws_vpc.main.cidr_block, 8, each.value)
  availability_zone                   = "us-east-1${each.key}"
  private_dns_hostname_type_on_launch = "ip-name"
  tags                                = { Tier = "public" }
}

resource "aws_subnet" "private" {
  for_each             = { a = 10, b = 11 }
  vpc_id               = aws_vpc.main.id
  cidr_block           = cidrsubnet(aws_vpc.main.cidr_block, 8, each.value)
  availability_zone_id = "use1-az${each.key == "a" ? 1 : 2}"
  tags                 = { Tier = "private" }
}

resource "aws_default_route_table" "main" {
  default_route_table_id = aws_vpc.main.default_route_table_id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.main.id
  }
  tags       = { Name = "default" }
  depends_on = [aws_internet_gateway_attachment.main]
}

resource "aws_default_security_group" "main" {
  vpc_id = aws_vpc.main.id
  ingress {
    protocol  = -1
    self      = true
    from_port = 0
    to_port   = 0
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.main.id
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private.id
}

resource "aws_vpc_dhcp_options" "main" {
  domain_name         = "wide.test"
  domain_name_servers = ["AmazonProvidedDNS"]
  ntp_servers         = ["169.254.169.123"]
}

resource "aws_vpc_dhcp_options_association" "main" {
  vpc_id          = aws_vpc.main.id
  dhcp_options_id = aws_vpc_dhcp_options.main.id
}

resource "aws_security_group" "lb" {
  name_prefix = "lb-"
  vpc_id      = aws_vpc.main.id
  ingress     = [for p in [80, 443] : { from_port = p, to_port = p, protocol = "tcp", cidr_blocks = ["0.0.0.0/0"], description = "", ipv6_cidr_blocks = [], prefix_list_ids = [], security_groups = [], self = false }]
  egress      = []
  lifecycle { create_before_destroy = true }
}

resource "aws_security_group" "web" {
  name                   = "web"
  vpc_id                 = aws_vpc.main.id
  revoke_rules_on_delete = true
  tags                   = { Name = "web" }
}

resource "aws_vpc_security_group_ingress_rule" "ping" {
  security_group_id = aws_security_group.web.id
  cidr_ipv4         = aws_vpc.main.cidr_block
  ip_protocol       = "icmp"
  from_port         = 8
  to_port           = 0
}

resource "aws_vpc_security_group_ingress_rule" "self" {
  security_group_id            = aws_security_group.web.id
  referenced_security_group_id = aws_security_group.web.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each          = toset(["80", "443"])
  security_group_id = aws_security_group.web.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.key
  to_port           = each.key
  description       = "level ${var.level}"
}

resource "aws_security_group_rule" "many" {
  type              = "ingress"
  security_group_id = aws_security_group.web.id
  protocol          = "tcp"
  from_port         = 1024
  to_port           = 65535
  cidr_blocks       = ["10.0.0.0/8", "172.16.0.0/12"]
}

# --- instances, interfaces, addresses

resource "aws_network_interface" "extra" {
  subnet_id         = aws_subnet.public["a"].id
  private_ips       = ["10.70.0.77"]
  security_groups   = [aws_security_group.web.id]
  source_dest_check = false
  description       = "moves between machines"
}

resource "aws_instance" "one" {
  ami                                  = data.aws_ami.nano.id
  instance_type                        = var.level == 1 ? "t3.small" : "t3.medium"
  subnet_id                            = aws_subnet.public["a"].id
  vpc_security_group_ids               = [aws_security_group.web.id]
  private_ip                           = "10.70.0.10"
  source_dest_check                    = false
  disable_api_termination              = var.level == 1
  disable_api_stop                     = false
  instance_initiated_shutdown_behavior = "stop"
  ebs_optimized                        = true
  user_data_replace_on_change          = false
  user_data                            = "#!/bin/sh\necho level ${var.level}\n"
  volume_tags                          = { Name = "one" }
  cpu_options {
    core_count       = 1
    threads_per_core = 2
  }
  maintenance_options { auto_recovery = "default" }
  private_dns_name_options { hostname_type = "ip-name" }
  metadata_options {
    http_tokens            = var.level == 1 ? "optional" : "required"
    instance_metadata_tags = "enabled"
  }
  root_block_device {
    volume_size           = 9
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
  }
  tags = { Name = "one", Level = tostring(var.level) }
}

resource "aws_instance" "spot" {
  ami           = data.aws_ami.nano.id
  instance_type = "t3.micro"
  subnet_id     = aws_subnet.public["b"].id
  instance_market_options {
    market_type = "spot"
    spot_options {
      max_price = "0.02"
    }
  }
}

resource "aws_ec2_instance_state" "two" {
  instance_id = aws_instance.two.id
  state       = var.level == 1 ? "stopped" : "running"
}

resource "aws_instance" "two" {
  ami           = data.aws_ami.nano.id
  instance_type = "t3.nano"
  subnet_id     = aws_subnet.private["a"].id
  lifecycle { ignore_changes = [tags] }
}

resource "aws_ec2_tag" "two" {
  resource_id = aws_instance.two.id
  key         = "Owner"
  value       = "level-${var.level}"
}

resource "aws_network_interface_sg_attachment" "two" {
  security_group_id    = aws_security_group.web.id
  network_interface_id = aws_instance.two.primary_network_interface_id
}

resource "aws_eip" "one" {
  domain     = "vpc"
  depends_on = [aws_internet_gateway_attachment.main]
}

resource "aws_eip_association" "one" {
  allocation_id = aws_eip.one.id
  instance_id   = aws_instance.one.id
}

resource "aws_key_pair" "generated" {
  key_name_prefix = "wide-"
  public_key      = var.public_key
}
variable "public_key" { type = string }

resource "aws_launch_template" "full" {
  name_prefix                          = "wide-"
  default_version                      = 1
  image_id                             = data.aws_ami.nano.id
  instance_initiated_shutdown_behavior = "terminate"
  disable_api_termination              = false
  key_name                             = aws_key_pair.generated.key_name
  user_data                            = base64encode("level ${var.level}")
  instance_requirements {
    vcpu_count {
      min = 1
      max = 2
    }
    memory_mib {
      min = 512
    }
    burstable_performance = "included"
  }
  credit_specification { cpu_credits = "unlimited" }
  capacity_reservation_specification { capacity_reservation_preference = "open" }
  maintenance_options { auto_recovery = "disabled" }
  private_dns_name_options { hostname_type = "ip-name" }
  placement { tenancy = "default" }
  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
  network_interfaces {
    device_index                = 0
    associate_public_ip_address = true
    delete_on_termination       = true
    security_groups             = [aws_security_group.web.id]
  }
  tag_specifications {
    resource_type = "network-interface"
    tags          = { Level = tostring(var.level) }
  }
}
