resource "aws_key_pair" "admin" {
  key_name   = "${var.name}-admin"
  public_key = var.public_key
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "web" {
  statement {
    actions   = ["ec2:DescribeInstances", "ec2:DescribeTags"]
    resources = ["*"]
  }
  statement {
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = [var.name]
    }
  }
}

resource "aws_iam_role" "web" {
  name                 = "${var.name}-web"
  description          = "web servers"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  max_session_duration = 7200
  tags                 = { Environment = var.environment }
}

resource "aws_iam_role_policy" "web" {
  name   = "inline"
  role   = aws_iam_role.web.id
  policy = data.aws_iam_policy_document.web.json
}

resource "aws_iam_policy" "web" {
  name        = "${var.name}-web"
  description = "a managed policy"
  policy      = data.aws_iam_policy_document.web.json
}

resource "aws_iam_role_policy_attachment" "web" {
  role       = aws_iam_role.web.name
  policy_arn = aws_iam_policy.web.arn
}

resource "aws_iam_instance_profile" "web" {
  name = "${var.name}-web"
  role = aws_iam_role.web.name
}

locals {
  user_data = <<-U
    #!/bin/sh
    mkdir -p /srv/www
    echo "${var.greeting} from $(hostname)" >/srv/www/index.html
    cp /srv/www/index.html /srv/www/healthz
    httpd -p 80 -h /srv/www
  U
}

resource "aws_launch_template" "web" {
  name                   = "${var.name}-web"
  description            = "web servers"
  image_id               = data.aws_ami.base.id
  instance_type          = var.instance_type
  key_name               = aws_key_pair.admin.key_name
  vpc_security_group_ids = [aws_security_group.web.id]
  user_data              = base64encode(local.user_data)
  update_default_version = true
  ebs_optimized          = true

  iam_instance_profile { name = aws_iam_instance_profile.web.name }
  monitoring { enabled = true }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
    instance_metadata_tags      = "enabled"
  }
  block_device_mappings {
    device_name = data.aws_ami.base.root_device_name
    ebs {
      volume_size           = 8
      volume_type           = "gp3"
      delete_on_termination = true
      encrypted             = true
    }
  }
  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-web", Environment = var.environment }
  }
  tag_specifications {
    resource_type = "volume"
    tags          = { Name = "${var.name}-web" }
  }
  tags = { Name = "${var.name}-web" }
}

resource "aws_instance" "bastion" {
  ami                         = data.aws_ami.base.id
  instance_type               = var.bastion_type
  key_name                    = aws_key_pair.admin.key_name
  subnet_id                   = aws_subnet.public[0].id
  vpc_security_group_ids      = [aws_security_group.web.id]
  iam_instance_profile        = aws_iam_instance_profile.web.name
  user_data                   = local.user_data
  monitoring                  = true
  disable_api_termination     = false
  associate_public_ip_address = true
  metadata_options {
    http_tokens   = "required"
    http_endpoint = "enabled"
  }
  root_block_device {
    volume_size = 10
    volume_type = "gp3"
    tags        = { Name = "${var.name}-bastion-root" }
  }
  credit_specification { cpu_credits = "standard" }
  tags = { Name = "${var.name}-bastion", Environment = var.environment }
}

# As little as can be said, the rest is up to the cloud.
resource "aws_instance" "plain" {
  ami           = data.aws_ami.base.id
  instance_type = "t3.nano"
  subnet_id     = aws_subnet.public[1].id
}

# From the template. The provider compares tags with what is said here, also those that the template gives.
resource "aws_instance" "templated" {
  launch_template {
    id      = aws_launch_template.web.id
    version = aws_launch_template.web.latest_version
  }
  subnet_id = aws_subnet.public[1].id
  tags      = { Name = "${var.name}-web", Environment = var.environment }
  lifecycle { ignore_changes = [user_data] }
}

resource "aws_eip" "bastion" {
  domain     = "vpc"
  instance   = aws_instance.bastion.id
  tags       = { Name = "${var.name}-bastion" }
  depends_on = [aws_internet_gateway.main]
}
