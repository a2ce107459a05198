resource "aws_vpc" "main" {
  cidr_block           = "10.30.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name, Environment = var.environment }
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = var.name }
}

resource "aws_subnet" "public" {
  count                   = 2
  vpc_id                  = aws_vpc.main.id
  cidr_block              = cidrsubnet(aws_vpc.main.cidr_block, 8, count.index)
  availability_zone       = local.zones[count.index]
  map_public_ip_on_launch = true
  tags                    = { Name = "${var.name}-public-${count.index}", Tier = "public" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = "${var.name}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.main.id
}

resource "aws_route_table_association" "public" {
  count          = 2
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

# A second table with its routes inline.
resource "aws_route_table" "inline" {
  vpc_id = aws_vpc.main.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.main.id
  }
  tags = { Name = "${var.name}-inline" }
}

resource "aws_security_group" "lb" {
  name        = "${var.name}-lb"
  description = "the load balancer"
  vpc_id      = aws_vpc.main.id

  dynamic "ingress" {
    for_each = [80, 443, 9443]
    content {
      description = "port ${ingress.value} from everywhere"
      from_port   = ingress.value
      to_port     = ingress.value
      protocol    = "tcp"
      cidr_blocks = ["0.0.0.0/0"]
    }
  }
  ingress {
    description = "admin"
    from_port   = 8443
    to_port     = 8443
    protocol    = "tcp"
    cidr_blocks = var.admin_cidrs
    self        = true
  }
  egress {
    from_port        = 0
    to_port          = 0
    protocol         = "-1"
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }
  tags = { Name = "${var.name}-lb" }
}

resource "aws_security_group" "web" {
  name_prefix = "${var.name}-web-"
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${var.name}-web" }
  lifecycle { create_before_destroy = true }
}

resource "aws_vpc_security_group_ingress_rule" "web_from_lb" {
  security_group_id            = aws_security_group.web.id
  description                  = "HTTP from the load balancer"
  from_port                    = 80
  to_port                      = 80
  ip_protocol                  = "tcp"
  referenced_security_group_id = aws_security_group.lb.id
  tags                         = { Name = "from-lb" }
}

resource "aws_vpc_security_group_ingress_rule" "web_admin" {
  for_each          = toset(var.admin_cidrs)
  security_group_id = aws_security_group.web.id
  cidr_ipv4         = each.value
  from_port         = 80
  to_port           = 80
  ip_protocol       = "tcp"
}

# The network load balancer has no group: its health checks come from its nodes in the subnets.
resource "aws_vpc_security_group_ingress_rule" "web_from_nlb" {
  count             = 2
  security_group_id = aws_security_group.web.id
  cidr_ipv4         = aws_subnet.public[count.index].cidr_block
  from_port         = 80
  to_port           = 80
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_ingress_rule" "web_ssh" {
  security_group_id = aws_security_group.web.id
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 22
  to_port           = 22
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "web_all" {
  security_group_id = aws_security_group.web.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

# The older form of a rule, which many configurations still use.
resource "aws_security_group" "old" {
  name        = "${var.name}-old"
  description = "rules of the older resource"
  vpc_id      = aws_vpc.main.id
}

resource "aws_security_group_rule" "old_ping" {
  type              = "ingress"
  security_group_id = aws_security_group.old.id
  protocol          = "icmp"
  from_port         = -1
  to_port           = -1
  cidr_blocks       = ["10.0.0.0/8"]
  description       = "ping"
}

resource "aws_security_group_rule" "old_from_lb" {
  type                     = "ingress"
  security_group_id        = aws_security_group.old.id
  protocol                 = "tcp"
  from_port                = 9000
  to_port                  = 9100
  source_security_group_id = aws_security_group.lb.id
}
