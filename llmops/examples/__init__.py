"""Example project code; users copy it into packages of their own."""
