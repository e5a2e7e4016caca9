"""What the Python suite shares: the hub under test, raw REST and MQTT, certificates, devices."""
