"""make-dataset: builds or imports a dataset folder. numpy and Pillow; torch only inside the functions that need it."""
